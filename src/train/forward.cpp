#include "train/forward.h"

#include <algorithm>

#include "model/rope.h"

namespace internvl {

// Tiles that pass a layer together: what backward keeps at a time are the activations of one layer.
static constexpr int64_t tiles_at_once = 2;

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

std::vector<float> mean_weights(size_t count) {
    return std::vector<float>(count, 1.0f / float(count));
}

// Only the part of the tower that is trained, and what comes after it, is recorded.
Tensor ForwardPass::see(Context& ctx, const View& pixels) const {
    Context plain = ctx;
    plain.tape = nullptr;
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
    size_t longest = 0;
    for (const Sample& s : samples) longest = std::max(longest, s.ids.size());
    rope_ = rope_frequencies(model_.config.text, int64_t(longest));
    for (const Sample& s : samples) {
        const int64_t first = int64_t(rows_.positions.size()), count = int64_t(s.ids.size());
        for (int64_t i = 0; i < count; ++i) rows_.positions.push_back(int32_t(i));
        rows_.spans.push_back({first, count, count, nullptr});
        rows_.rope.push_back(&rope_);
    }
}

Tensor ForwardPass::run(Context& ctx, const SampleBatch& batch, const Targets& targets,
                        std::span<const float> weights) {
    line_up(batch.samples);
    rows_.logit_rows = targets.rows;
    const Tensor pictures = batch.pixels ? see(ctx, batch.pixels) : Tensor();
    std::vector<int> ids;
    for (const Sample& s : batch.samples) ids.insert(ids.end(), s.ids.begin(), s.ids.end());
    const Tensor x = model_.embed(ctx, ids, pictures, context_token_);
    const Tensor logits = model_.decoder.forward(ctx, x, rows_, {});
    return logits ? cross_entropy(ctx, logits, targets.tokens, weights) : Tensor();
}

}  // namespace internvl
