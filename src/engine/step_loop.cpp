#include "engine/step_loop.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/clock.h"
#include "model/rope.h"

namespace internvl {

struct StepLoop::Sequence {
    Generation g;
    Sampler sampler;
    int64_t room;  // tokens that may be generated
    Answer answer = {};
    std::vector<int32_t> blocks = {};
    Tensor rows = {};    // of the prompt from `first` on, while it is computed
    int64_t first = 0;   // what came before was in the cache
    int64_t stored = 0;  // tokens whose keys and values are in the cache
    RopeFrequencies rope = {};
    std::optional<PrefixNames> names = {};  // none: blocks are not found again
    size_t named = 0;                       // blocks
    Stopwatch watch = {};
    bool ended = false;

    int64_t prompt() const { return int64_t(g.prompt.size()); }
    bool prefilling() const { return stored < prompt(); }
};

StepLoop::StepLoop(Engine& engine, const LoopOptions& options)
    : engine_(engine),
      options_(options),
      reuse_(engine.keeps_prefixes() && !options.reference),
      cache_(reuse_ ? engine.borrow_cache(options.cache_tokens)
                    : std::make_shared<KvCache>(engine.make_cache(options.cache_tokens))) {}

StepLoop::~StepLoop() {
    for (const auto& s : running_) cache_->give_back(s->blocks);
}

bool StepLoop::fits(const Generation& g) const {
    return int64_t(g.prompt.size()) + engine_.check_room(g) <= cache_->max_tokens();
}

void StepLoop::add(Generation g) {
    const int64_t room = engine_.check_room(g);
    if (!fits(g))
        throw Error("prompt and answer do not fit the cache",
                    fmt::format("at most {} tokens", cache_->max_tokens()),
                    fmt::format("{}", int64_t(g.prompt.size()) + room));
    Sampler sampler = engine_.make_sampler(g.options);
    auto sequence = std::make_unique<Sequence>(
        Sequence{.g = std::move(g), .sampler = std::move(sampler), .room = room});
    longest_prompt_ = std::max(longest_prompt_, sequence->prompt());
    waiting_.push_back(std::move(sequence));
}

// What is known of the prompt, and room for the rest; false when that must wait. The last token is
// always computed, for its logits.
bool StepLoop::take_blocks(Sequence& s) {
    s.rope = rope_frequencies(engine_.model().config.text, s.prompt() + s.room);
    if (reuse_) {
        if (!s.names) s.names = engine_.prefix_names(s.g, s.rope);
        const std::span<const DigestKey> names(s.names->names());
        s.blocks = cache_->hold_known(
            names.first(std::min(names.size(), size_t((s.prompt() - 1) / cache_block))));
    }
    s.named = s.blocks.size();
    s.first = s.stored = int64_t(s.named) * cache_block;
    const int64_t more = s.prompt() + s.room - s.first;
    if (cache_->free_tokens() < more) {
        cache_->give_back(s.blocks);
        return false;
    }
    const std::vector<int32_t> own = cache_->take(more);
    s.blocks.insert(s.blocks.end(), own.begin(), own.end());
    s.answer.cached_tokens = int(s.first);
    return true;
}

void StepLoop::admit() {
    while (!waiting_.empty() && int(running_.size()) < options_.max_sequences) {
        Sequence& s = *waiting_.front();
        s.watch = {};
        if (!take_blocks(s)) break;
        running_.push_back(std::move(waiting_.front()));
        waiting_.pop_front();
        try {
            s.rows = engine_.embed(s.g, s.first);
            s.g.pictures = {};
        } catch (const Error&) {
            s.answer.error = std::current_exception();
            end(s, Answer::End::failed);
        }
    }
}

// Once they are computed, and not when the pass was broken off. Not all may have names.
void StepLoop::name_full_blocks(Sequence& s) {
    if (!s.names) return;
    const std::vector<DigestKey>& names = s.names->names();
    const size_t full = std::min(names.size(), size_t(s.stored / cache_block));
    for (; s.named < full; ++s.named) cache_->name(s.blocks[s.named], names[s.named]);
}

const RopeFrequencies& StepLoop::rope_of(const Sequence& s) const {
    return common_rope_ ? *common_rope_ : s.rope;
}

void StepLoop::plan(Pass& pass, std::vector<Sequence*>& chosen) {
    const bool prefilling =
        std::ranges::any_of(running_, [](const auto& s) { return s->prefilling(); });
    const bool decode = !(options_.reference && prefilling);
    if (options_.reference) {
        decode_passes_ += decode;
        common_rope_ = &options_.reference->at(longest_prompt_ + decode_passes_);
    }
    for (const auto& s : running_) {
        if (s->prefilling() || !decode) continue;
        const int id = s->answer.ids.back();
        const View row = engine_.model().decoder.embedding.slice(0, id, 1);
        if (s->names) s->names->append(id);
        pass.add(s->blocks, s->stored++, row, rope_of(*s), true);
        chosen.push_back(s.get());
    }
    for (const auto& s : running_) {
        const int64_t count = std::min(options_.chunk - pass.rows(), s->prompt() - s->stored);
        if (!s->prefilling() || count <= 0) continue;
        const bool last = s->stored + count == s->prompt();
        pass.add(s->blocks, s->stored, s->rows.slice(0, s->stored - s->first, count), rope_of(*s),
                 last);
        s->stored += count;
        if (last) chosen.push_back(s.get());
    }
}

void StepLoop::end(Sequence& s, Answer::End how) {
    s.ended = true;
    s.answer.end = how;
    s.answer.decode_ms = s.watch.ms();
    if (s.g.on_end) s.g.on_end(std::move(s.answer));
}

void StepLoop::choose(Sequence& s, std::span<const float> logits) {
    if (s.answer.ids.empty()) {
        s.answer.prefill_ms = s.watch.lap();
        s.rows = {};
    }
    if (s.g.on_logits) s.g.on_logits(logits);
    int id;
    try {
        id = s.sampler.next(logits, s.answer.ids);
    } catch (const Error&) {
        s.answer.error = std::current_exception();
        return end(s, Answer::End::failed);
    }
    s.answer.ids.push_back(id);
    if (s.sampler.stops(id)) return end(s, Answer::End::stop);
    if (s.g.on_token && !s.g.on_token(id)) return end(s, Answer::End::stop);
    if (int64_t(s.answer.ids.size()) >= s.room) end(s, Answer::End::length);
}

void StepLoop::remove_ended() {
    for (auto s = running_.begin(); s != running_.end();) {
        if ((*s)->ended) {
            cache_->give_back((*s)->blocks);
            s = running_.erase(s);
        } else {
            ++s;
        }
    }
}

bool StepLoop::step() {
    admit();
    remove_ended();
    if (running_.empty()) return unfinished() > 0;
    try {
        Pass pass(engine_.context(), engine_.model().decoder, *cache_);
        std::vector<Sequence*> chosen;  // in the order of their logits
        plan(pass, chosen);
        const Tensor logits = pass.run();
        for (const auto& s : running_) name_full_blocks(*s);
        for (size_t i = 0; i < chosen.size(); ++i)
            choose(*chosen[i],
                   {logits.as<float>() + int64_t(i) * logits.dim[1], size_t(logits.dim[1])});
    } catch (const Cancelled&) {
        for (const auto& s : running_)
            if (!s->ended) end(*s, Answer::End::cancelled);
        for (const auto& s : waiting_) end(*s, Answer::End::cancelled);
        waiting_.clear();
    } catch (...) {  // what was planned was not computed and must not be found
        for (const auto& s : running_) s->names.reset();
        throw;
    }
    remove_ended();
    return unfinished() > 0;
}

}  // namespace internvl
