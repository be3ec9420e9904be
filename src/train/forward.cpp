#include "train/forward.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "model/rope.h"

namespace internvl {

// Tiles that pass a layer together: what backward keeps at a time are the activations of one layer.
static constexpr int64_t tiles_at_once = 2;
static constexpr int64_t rows_at_once = 512;

Targets::Targets(std::span<const Sample> samples) {
    int first = 0;
    for (const Sample& s : samples) {
        assert(s.ids.size() == s.labels.size());
        for (size_t i = 0; i + 1 < s.ids.size(); ++i)
            if (s.labels[i + 1] != ignored_label) {
                rows.push_back(first + int(i));
                tokens.push_back(s.labels[i + 1]);
            }
        first += int(s.ids.size());
    }
}

double label_weight(const Sample& s, Weighting weighting) {
    const double x = double(s.labels.size()) -
                     double(std::count(s.labels.begin(), s.labels.end(), ignored_label));
    return weighting == Weighting::token ? 1
                                         : 1 / (weighting == Weighting::sample ? x : std::sqrt(x));
}

std::vector<float> target_weights(std::span<const Sample> samples, Weighting weighting) {
    std::vector<double> all;
    double total = 0;
    for (const Sample& s : samples) {
        const size_t count = Targets({&s, 1}).rows.size();
        if (count == 0) continue;
        all.insert(all.end(), count, label_weight(s, weighting));
        total += double(count) * all.back();
    }
    std::vector<float> weights;
    for (const double w : all) weights.push_back(float(w / total));
    return weights;
}

// Only the part of the tower that is trained, and what comes after it, is recorded.
Tensor ForwardPass::see(Context& ctx, const View& pixels) const {
    Context plain = without_tape(ctx);
    const Vision& vision = model_.vision;
    const int64_t from = trained_.vision_from(), layers = int64_t(vision.layers.size());
    VisionRun run = vision.begin(from < 0 ? ctx : plain, pixels);
    if (ctx.tape && from >= 0 && from < layers) ctx.tape->keep(run.x);
    while (!vision.passed(run))
        vision.advance(int64_t(run.layer) >= from ? ctx : plain, run, tiles_at_once);
    return vision.finish(from < layers || trained_.projector() ? ctx : plain, run);
}

void ForwardPass::line_up(std::span<const Sample> samples) {
    rows_ = {};
    int64_t longest = 0;
    for (const Sample& s : samples)
        longest = std::max(longest, s.first_position + int64_t(s.ids.size()));
    rope_ = rope_frequencies(model_.config.text, longest);
    for (const Sample& s : samples) {
        const int64_t first = int64_t(rows_.positions.size()), count = int64_t(s.ids.size());
        for (int64_t i = 0; i < count; ++i)
            rows_.positions.push_back(int32_t(s.first_position + i));
        rows_.spans.push_back({first, count, count, nullptr});
        rows_.rope.push_back(&rope_);
    }
}

// A vocabulary is wide: logits of a few rows at a time, and again when backward wants them.
Tensor ForwardPass::losses(Context& ctx, const Tensor& last, const Targets& targets,
                           std::span<const float> weights) const {
    const int64_t rows = last.dim[0];
    const Tensor all = make_tensor(DType::f32, {rows});
    for (int64_t first = 0; first < rows; first += rows_at_once) {
        const int64_t count = std::min(rows_at_once, rows - first);
        recomputed(ctx, [this, all, first, count, x = last.slice(0, first, count),
                         tokens = std::span(targets.tokens).subspan(size_t(first), size_t(count)),
                         by = weights.subspan(size_t(first), size_t(count))](Context& c) {
            const Linear& head = model_.decoder.head;
            const Tensor logits = c.make(DType::f32, {count, head.out});
            linear_into(c, x, head, logits);
            const Tensor part = cross_entropy(c, logits, tokens, by);
            std::memcpy(all.at(first), part.data, size_t(part.bytes()));
        });
    }
    return all;
}

Tensor ForwardPass::run(Context& ctx, const SampleBatch& batch, const Targets& targets,
                        std::span<const float> weights) {
    assert(weights.size() == targets.rows.size());
    line_up(batch.samples);
    rows_.logit_rows = targets.rows;
    const Tensor pictures = batch.pixels ? see(ctx, batch.pixels) : Tensor();
    std::vector<int> ids;
    for (const Sample& s : batch.samples) ids.insert(ids.end(), s.ids.begin(), s.ids.end());
    const Tensor x = model_.embed(ctx, ids, pictures, context_token_);
    const Tensor last = model_.decoder.last_rows(ctx, x, rows_, {});
    return last ? losses(ctx, last, targets, weights) : Tensor();
}

}  // namespace internvl
