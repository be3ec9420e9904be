#include "engine/beam_search.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "base/clock.h"
#include "engine/pass.h"
#include "model/rope.h"

namespace internvl {

namespace {

// An answer in the making. Its cache blocks: those of the prompt that are full are everybody's, the
// rest is its own.
struct Beam {
    std::vector<int> ids;
    double score = 0;  // sum of log-probabilities
    std::vector<int32_t> blocks;
};

struct Finished {
    std::vector<int> ids;
    double score;  // over length^penalty
};

struct Continuation {
    double score;
    size_t beam;
    int id;
};

class Search {
  public:
    Search(Engine& engine, const Generation& g, ReferenceRope* reference)
        : engine_(engine),
          g_(g),
          reference_(reference),
          room_(engine.check_room(g)),
          beams_(size_t(g.options.num_beams)),
          sampler_(engine.make_sampler(g.options)),
          prompt_(int64_t(g.prompt.size())),
          shared_(prompt_ / cache_block),
          // Each beam's own blocks twice: a new generation of beams copies those of its parents.
          cache_(engine.make_cache(shared_ * cache_block +
                                   2 * int64_t(beams_) *
                                       (room_ + prompt_ % cache_block + cache_block))) {}

    Answer run() {
        Stopwatch watch;
        Answer answer;
        try {
            std::vector<Continuation> list = first_continuations();
            answer.prefill_ms = watch.lap();
            while (!grow(list) && length_ < room_) list = continuations(forward());
            for (const Beam& b : current_)
                if (!done_) finish(b.ids, b.score, length_);
            best(answer);
        } catch (const Cancelled&) {
            answer.end = Answer::End::cancelled;
        }
        answer.decode_ms = watch.ms();
        return answer;
    }

  private:
    std::vector<Continuation> first_continuations() {
        const Tensor rows = engine_.embed(g_);
        Beam root;
        root.blocks = cache_.take(prompt_);
        const RopeFrequencies rope = this->rope(prompt_);
        Tensor logits;
        for (int64_t first = 0; first < prompt_; first += chunk) {
            Pass pass(engine_.context(), engine_.model().decoder, cache_);
            const int64_t count = std::min(chunk, prompt_ - first);
            pass.add(root.blocks, first, rows.slice(0, first, count), rope,
                     first + count == prompt_);
            logits = pass.run();
        }
        current_ = {root};
        return continuations(logits);
    }

    RopeFrequencies rope(int64_t length) const {
        return reference_ ? reference_->at(length)
                          : rope_frequencies(engine_.model().config.text, prompt_ + room_);
    }

    // One row for each beam, its last token.
    Tensor forward() {
        const RopeFrequencies rope = this->rope(prompt_ + length_);
        Pass pass(engine_.context(), engine_.model().decoder, cache_);
        for (const Beam& b : current_)
            pass.add(b.blocks, prompt_ + length_ - 1,
                     engine_.model().decoder.embedding.slice(0, b.ids.back(), 1), rope, true);
        return pass.run();
    }

    // The 2 * beams best ways to go on from the current beams.
    std::vector<Continuation> continuations(const Tensor& logits) {
        std::vector<Continuation> list;
        const size_t vocab = size_t(logits.dim[1]), wanted = 2 * beams_;
        for (size_t b = 0; b < current_.size(); ++b) {
            const std::span<const float> row(logits.as<float>() + b * vocab, vocab);
            const std::span<const float> scores = sampler_.log_probabilities(row, current_[b].ids);
            for (size_t id = 0; id < vocab; ++id)
                list.push_back({double(scores[id]) + current_[b].score, b, int(id)});
        }
        const size_t kept = std::min(wanted, list.size());
        std::partial_sort(
            list.begin(), list.begin() + long(kept), list.end(),
            [](const Continuation& x, const Continuation& y) { return x.score > y.score; });
        list.resize(kept);
        return list;
    }

    // Takes the continuations up: true when the search is over.
    bool grow(const std::vector<Continuation>& list) {
        ++length_;
        std::vector<Beam> next;
        for (size_t rank = 0; rank < list.size() && next.size() < beams_; ++rank) {
            const Continuation& c = list[rank];
            if (c.id == engine_.stop_token() && !g_.options.ignore_eos) {
                // One that is worse than every beam cannot be the best.
                if (rank < beams_) finish(current_[c.beam].ids, c.score, length_);
                continue;
            }
            next.push_back({current_[c.beam].ids, c.score, {}});
            next.back().ids.push_back(c.id);
            next.back().blocks = inherit(current_[c.beam].blocks);
        }
        for (const Beam& b : current_)
            cache_.give_back(std::span(b.blocks).subspan(
                size_t(std::min<int64_t>(shared_, int64_t(b.blocks.size())))));
        current_ = std::move(next);
        done_ = is_done(list.front().score);
        return done_;
    }

    // The parent's blocks, those with generated tokens copied, and room for one token more.
    std::vector<int32_t> inherit(const std::vector<int32_t>& parent) {
        std::vector<int32_t> blocks(parent.begin(), parent.begin() + long(shared_));
        const int64_t used = prompt_ + length_ - 1 - shared_ * cache_block;
        const std::vector<int32_t> own = cache_.take(used + 1);
        for (int64_t i = 0; i * cache_block < used; ++i)
            cache_.copy_block(parent[size_t(shared_ + i)], own[size_t(i)]);
        blocks.insert(blocks.end(), own.begin(), own.end());
        return blocks;
    }

    double penalised(double score, int64_t length) const {
        return score / std::pow(double(length), double(g_.options.length_penalty));
    }

    // Keeps the best `beams` finished answers; the stop token counts as length.
    void finish(const std::vector<int>& ids, double score, int64_t length) {
        finished_.push_back({ids, penalised(score, length)});
        std::stable_sort(finished_.begin(), finished_.end(),
                         [](const Finished& a, const Finished& b) { return a.score > b.score; });
        if (finished_.size() > beams_) finished_.pop_back();
    }

    bool is_done(double best_score) const {
        if (finished_.size() < beams_) return false;
        return g_.options.early_stopping ||
               finished_.back().score >= penalised(best_score, length_);
    }

    void best(Answer& answer) const {
        answer.ids = finished_.front().ids;
        answer.score = finished_.front().score;
        answer.end = Answer::End::length;
        if (g_.on_token)
            for (const int id : answer.ids)
                if (!g_.on_token(id)) break;
        if (int64_t(answer.ids.size()) < room_) {
            answer.end = Answer::End::stop;
            answer.ids.push_back(engine_.stop_token());
        }
    }

    static constexpr int64_t chunk = 512;
    Engine& engine_;
    const Generation& g_;
    ReferenceRope* reference_;
    int64_t room_;
    size_t beams_;
    Sampler sampler_;
    int64_t prompt_, shared_;  // tokens; blocks
    KvCache cache_;
    std::vector<Beam> current_;
    std::vector<Finished> finished_;  // the best first
    int64_t length_ = 0;              // tokens of each beam
    bool done_ = false;
};

}  // namespace

Answer beam_search(Engine& engine, const Generation& g, ReferenceRope* reference) {
    return Search(engine, g, reference).run();
}

}  // namespace internvl
