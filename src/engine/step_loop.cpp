#include "engine/step_loop.h"

#include <fmt/format.h>

#include <algorithm>
#include <cassert>

#include "base/clock.h"
#include "model/rope.h"

namespace internvl {

struct StepLoop::Sequence {
    Entry entry;
    Generation g;
    Sampler sampler;
    RopeFrequencies rope = {};
    std::optional<PrefixNames> names = {};  // none: blocks are not found again
    size_t named = 0;                       // blocks
    Answer answer = {};
    std::vector<Tensor> tile_rows = {};  // of `unseen`, as far as they are known
    size_t tiles_left = 0;               // in the tower
    Tensor rows = {};  // of what is to be stored from `first` on, while it is computed
    int64_t first = 0;
    Stopwatch watch = {};
    bool begun = false, cancelled = false, ended = false;
};

StepLoop::StepLoop(Engine& engine, const LoopOptions& options)
    : engine_(engine),
      options_(options),
      shares_(!options.reference && engine.types().outliers_from == 0),
      keeps_(shares_ && engine.keeps_prefixes()),
      cache_(keeps_ && !options.own_cache
                 ? engine.borrow_cache(options.cache_tokens)
                 : std::make_shared<KvCache>(engine.make_cache(options.cache_tokens))),
      scheduler_(cache_->pool(), {.max_sequences = options.max_sequences,
                                  .chunk = options.chunk,
                                  .step_budget_ms = options.step_budget_ms,
                                  .lockstep = options.reference != nullptr}),
      tower_(engine.context(), engine.model().vision, engine.types().outliers_from > 0) {}

StepLoop::~StepLoop() {
    for (const auto& [id, s] : sequences_)
        if (!s->ended) scheduler_.remove(s->entry);
}

bool StepLoop::fits(const Generation& g) const {
    return int64_t(g.prompt.size()) + engine_.room(g) <= cache_->max_tokens();
}

static int64_t count_tiles(const Generation& g) {
    int64_t tiles = 0;
    for (const auto& picture : g.unseen) tiles += picture->count;
    return tiles;
}

void StepLoop::check(const Generation& g) const {
    if (!fits(g))
        throw Error("prompt and answer do not fit the cache",
                    fmt::format("at most {} tokens", cache_->max_tokens()),
                    fmt::format("{}", int64_t(g.prompt.size()) + engine_.room(g)));
    engine_.make_sampler(g.options);
    if (g.unseen.empty()) return;
    assert(g.unseen_keys.empty() || int64_t(g.unseen_keys.size()) == count_tiles(g));
    const int64_t rows = count_tiles(g) * engine_.model().vision.rows_per_tile();
    const int64_t places = std::ranges::count(g.prompt, engine_.context_token());
    if (rows != places)
        throw Error("the prompt has not as many places as its pictures have rows",
                    fmt::format("{}", rows), fmt::format("{}", places));
}

uint64_t StepLoop::add(Generation g, uint64_t id) {
    check(g);
    if (id == 0) id = last_id_ + 1;
    last_id_ = id;
    if (g.unseen_keys.empty())
        for (const auto& picture : g.unseen)
            for (int t = 0; t < picture->count; ++t) g.unseen_keys.push_back(tile_key(*picture, t));
    Entry entry;
    entry.id = id;
    entry.queue = g.queue;
    entry.priority = g.priority;
    entry.prompt = int64_t(g.prompt.size());
    entry.room = engine_.room(g);
    entry.tiles = int64_t(g.unseen_keys.size());
    entry.deadline = g.deadline;
    if (const auto first = sequences_.find(g.sibling_of); first != sequences_.end())
        if (!first->second->ended) entry.leader = &first->second->entry;
    Sampler sampler = engine_.make_sampler(g.options);
    auto s =
        std::make_unique<Sequence>(Sequence{std::move(entry), std::move(g), std::move(sampler)});
    s->rope = rope_frequencies(engine_.model().config.text, s->entry.prompt + s->entry.room);
    if (shares_) {
        // Where nothing is kept, the choices of a request share with each other.
        const uint64_t group = s->g.sibling_of ? s->g.sibling_of : id;
        s->names = engine_.prefix_names(
            s->g, s->rope, keeps_ ? s->g.scope : fmt::format("{} of {}", group, s->g.scope));
        s->entry.names = &s->names->names();
    }
    s->tile_rows.resize(s->g.unseen_keys.size());
    longest_prompt_ = std::max(longest_prompt_, s->entry.prompt);
    scheduler_.add(s->entry, Clock::now());
    sequences_[id] = std::move(s);
    return id;
}

// It has its turn, for the first time or again.
void StepLoop::begin(Sequence& s) {
    const Entry& e = s.entry;
    s.named = size_t(e.known / cache_block);
    if (!s.begun) {
        s.begun = true;
        s.answer.queue_ms = s.watch.lap();
        s.answer.cached_tokens = int(e.known);
        s.answer.tiles_cached = int(e.tiles);
        counts_.prefix_queried_tokens += e.prompt;
        counts_.prefix_hit_tokens += e.known;
    }
    if (!s.tile_rows.empty())
        see(s, std::count(s.g.prompt.begin(), s.g.prompt.begin() + std::min(e.known, e.prompt),
                          engine_.context_token()));
}

// It has lost its turn, though not the rows of tiles that were seen.
void StepLoop::put_back(Sequence& s) {
    tower_.drop(s.entry.id);
    s.tiles_left = 0;
    s.rows = {};
}

// Asks for the rows of its pictures from a place on.
void StepLoop::see(Sequence& s, int64_t first_place) {
    const size_t first = size_t(first_place / engine_.model().vision.rows_per_tile());
    if (const auto choice = sequences_.find(s.g.sibling_of); choice != sequences_.end())
        if (choice->second->tile_rows.size() == s.tile_rows.size())
            s.tile_rows = choice->second->tile_rows;
    size_t t = 0;
    for (const auto& picture : s.g.unseen)
        for (int n = 0; n < picture->count; ++n, ++t) {
            if (t < first || s.tile_rows[t]) continue;
            const DigestKey key = scoped(s.g.scope, s.g.unseen_keys[t]);
            s.tile_rows[t] = engine_.known_rows(key);
            ++(s.tile_rows[t] ? counts_.vision_hits : counts_.vision_misses);
            if (s.tile_rows[t]) continue;
            ++s.tiles_left;
            tower_.want(s.entry.id, t, {picture, n}, key);
        }
    s.entry.seeing = s.tiles_left > 0;
}

// The rows that stand in the places of the prompt from `first` on.
View StepLoop::picture_rows(const Sequence& s, int64_t first, Tensor& keeper) {
    const auto rest = s.g.prompt.begin() + first;
    const int64_t seen = std::count(s.g.prompt.begin(), rest, engine_.context_token());
    if (!s.tile_rows.empty()) {
        const int64_t each = engine_.model().vision.rows_per_tile();
        const size_t from = size_t(seen / each);
        if (from == s.tile_rows.size()) return {};
        const Tensor& one = s.tile_rows[from];
        const int64_t tiles = int64_t(s.tile_rows.size() - from);
        keeper = engine_.context().arena.get(one.dtype, {tiles * each, one.dim[1]});
        for (int64_t t = 0; t < tiles; ++t)
            copy(engine_.context(), s.tile_rows[from + size_t(t)], keeper.slice(0, t * each, each));
        return keeper.slice(0, seen % each, tiles * each - seen % each);
    }
    const View rows = s.g.pictures.rows;
    if (!rows) return {};
    return seen == rows.dim[0] ? View() : rows.slice(0, seen, rows.dim[0] - seen);
}

// What its blocks lack: the rest of the prompt and, after a preemption, the answer up to the last
// token.
void StepLoop::embed(Sequence& s, int64_t first) {
    Context& ctx = engine_.context();
    const int64_t prompt = s.entry.prompt, target = s.entry.target();
    Tensor asked, answered, keeper;
    if (first < prompt)
        asked = engine_.embed(std::span(s.g.prompt).subspan(size_t(first)),
                              picture_rows(s, first, keeper));
    if (const int64_t begin = std::max(first, prompt); begin < target)
        answered = gather_rows(
            ctx, engine_.model().decoder.embedding,
            std::span(s.answer.ids).subspan(size_t(begin - prompt), size_t(target - begin)));
    s.first = first;
    if (!asked || !answered) {
        s.rows = asked ? asked : answered;
        return;
    }
    s.rows = ctx.arena.get(ctx.activations, {target - first, asked.dim[1]});
    copy(ctx, asked, s.rows.slice(0, 0, asked.dim[0]));
    copy(ctx, answered, s.rows.slice(0, asked.dim[0], answered.dim[0]));
}

void StepLoop::embed_new(Step& step) {
    std::erase_if(step.prefill, [&](const Chunk& c) {
        Sequence& s = of(*c.entry);
        if (s.rows) return false;
        try {
            embed(s, c.first);
            return false;
        } catch (const Error&) {
            end(s, Answer::End::failed, std::current_exception());
            return true;
        }
    });
}

// Once they are computed, and not when the pass was broken off. Not all may have names.
void StepLoop::name_full_blocks(Sequence& s) {
    if (!s.names) return;
    const std::vector<DigestKey>& names = s.names->names();
    const size_t full = std::min(names.size(), size_t(s.entry.stored / cache_block));
    for (; s.named < full; ++s.named) cache_->name(s.entry.blocks[s.named], names[s.named]);
}

void StepLoop::name_full_blocks(const Step& step) {
    for (const Entry* e : step.decode) name_full_blocks(of(*e));
    for (const Chunk& c : step.prefill) name_full_blocks(of(*c.entry));
}

const RopeFrequencies& StepLoop::rope_of(const Sequence& s) const {
    return common_rope_ ? *common_rope_ : s.rope;
}

void StepLoop::count_prefill(const Chunk& c) {
    const std::vector<int>& prompt = of(*c.entry).g.prompt;
    const auto from = prompt.begin() + std::min(c.first, c.entry->prompt);
    const auto to = prompt.begin() + std::min(c.first + c.count, c.entry->prompt);
    const int64_t places = std::count(from, to, engine_.context_token());
    counts_.prefill_image_tokens += places;
    counts_.prefill_text_tokens += c.count - places;
}

// -> logits of those in `chosen`, one below the other
Tensor StepLoop::run_pass(const Step& step, std::vector<Sequence*>& chosen, StepReport& report) {
    if (step.decode.empty() && step.prefill.empty()) return {};
    const Stopwatch watch;
    if (options_.reference) {
        decode_passes_ += !step.decode.empty();
        common_rope_ = &options_.reference->at(longest_prompt_ + decode_passes_);
    }
    Pass pass(engine_.context(), engine_.model().decoder, *cache_);
    for (const Entry* e : step.decode) {
        Sequence& s = of(*e);
        const int id = s.answer.ids.back();
        if (s.names) s.names->append(id);
        pass.add(e->blocks, e->stored - 1, engine_.model().decoder.embedding.slice(0, id, 1),
                 rope_of(s), true);
        chosen.push_back(&s);
    }
    for (const Chunk& c : step.prefill) {
        Sequence& s = of(*c.entry);
        pass.add(c.entry->blocks, c.first, s.rows.slice(0, c.first - s.first, c.count), rope_of(s),
                 c.last);
        if (c.last) chosen.push_back(&s);
        count_prefill(c);
    }
    Tensor logits = pass.run();
    report.decode_rows = int(step.decode.size());
    report.prefill_tokens = step.tokens();
    report.pass_ms = watch.ms();
    scheduler_.costs().learn_pass(report.decode_rows, report.prefill_tokens, report.pass_ms);
    name_full_blocks(step);
    for (const Chunk& c : step.prefill)
        if (c.entry->stored == c.entry->target()) of(*c.entry).rows = {};
    return logits;
}

void StepLoop::run_tower(double ms, StepReport& report) {
    std::vector<uint64_t> turn;
    for (const Entry* e : scheduler_.to_see()) turn.push_back(e->id);
    const Tower::Work work = tower_.advance(ms, turn);
    for (const uint64_t id : tower_.owners_of_batch()) scheduler_.seen(sequences_.at(id)->entry);
    report.vision_ms = work.layers_ms;
    report.projector_ms = work.projector_ms;
    report.tiles = int(work.seen.size());
    // The language model wants other sizes; what the tower needed would only lie beside them.
    if (!tower_.busy()) engine_.context().arena.trim();
    scheduler_.costs().piece_ms = tower_.piece_ms();
    scheduler_.costs().learn_tiles(report.tiles, work.batch_ms);
    for (const Tower::Seen& seen : work.seen) {
        engine_.keep_rows(seen.key, seen.rows);
        if (!seen.wanted.empty()) {
            Answer& first = sequences_.at(seen.wanted[0].first)->answer;
            --first.tiles_cached;
            ++first.tiles_computed;
        }
        for (const auto& [owner, place] : seen.wanted) {
            Sequence& s = *sequences_.at(owner);
            scheduler_.seen(s.entry);
            s.tile_rows[place] = seen.rows;
            if (--s.tiles_left > 0) continue;
            s.entry.seeing = false;
            s.answer.vision_ms += s.watch.lap();
            // Their rows stay, in case that it has to be begun again.
            if (std::ranges::all_of(s.tile_rows, &Tensor::operator bool)) s.g.unseen.clear();
        }
    }
}

void StepLoop::end(Sequence& s, Answer::End how, std::exception_ptr error) {
    if (s.ended) return;
    s.ended = true;
    ended_.push_back(s.entry.id);
    Answer& a = s.answer;
    (!s.begun         ? a.queue_ms
     : s.entry.seeing ? a.vision_ms
     : a.ids.empty()  ? a.prefill_ms
                      : a.decode_ms) += s.watch.ms();
    scheduler_.remove(s.entry);
    tower_.drop(s.entry.id);
    scheduler_.costs().learn_answer(s.entry.made);
    a.end = how;
    a.error = std::move(error);
    a.preemptions = s.entry.preemptions;
    if (s.g.on_end) s.g.on_end(std::move(a));
}

void StepLoop::choose(Sequence& s, std::span<const float> logits) {
    if (s.ended) return;
    if (s.answer.ids.empty()) s.answer.prefill_ms += s.watch.lap();
    bool more = true;
    int id = 0;
    try {
        if (s.g.on_logits) s.g.on_logits(logits);
        id = s.sampler.next(logits, s.answer.ids);
        s.answer.ids.push_back(id);
        ++s.entry.made;
        ++counts_.generated_tokens;
        if (s.sampler.stops(id)) return end(s, Answer::End::stop);
        if (s.g.on_token) more = s.g.on_token(id);
    } catch (...) {
        return end(s, Answer::End::failed, std::current_exception());
    }
    if (!more) return end(s, s.cancelled ? Answer::End::cancelled : Answer::End::stop);
    if (s.entry.made >= s.entry.room) end(s, Answer::End::length);
}

void StepLoop::cancel(uint64_t id) {
    const auto found = sequences_.find(id);
    if (found == sequences_.end() || found->second->ended) return;
    found->second->cancelled = true;
    if (stepping_) return;
    end(*found->second, Answer::End::cancelled);
    sweep();
}

void StepLoop::cancel_all() {
    for (const auto& [id, s] : sequences_) end(*s, Answer::End::cancelled);
    if (!stepping_) sweep();
}

void StepLoop::fail_all(const std::exception_ptr& error) {
    for (const auto& [id, s] : sequences_) end(*s, Answer::End::failed, error);
    sweep();
}

void StepLoop::sweep() {
    for (const uint64_t id : ended_) sequences_.erase(id);
    ended_.clear();
}

// A pass that fails ends those whose work it was.
void StepLoop::move_on(const Step& step, StepReport& report) {
    std::vector<Sequence*> chosen;
    Tensor logits;
    try {
        logits = run_pass(step, chosen, report);
    } catch (const Cancelled&) {
        return cancel_all();
    } catch (...) {
        const std::exception_ptr error = std::current_exception();
        for (const Entry* e : step.decode) end(of(*e), Answer::End::failed, error);
        for (const Chunk& c : step.prefill) end(of(*c.entry), Answer::End::failed, error);
        return;
    }
    for (size_t i = 0; i < chosen.size(); ++i)
        choose(*chosen[i],
               {logits.as<float>() + int64_t(i) * logits.dim[1], size_t(logits.dim[1])});
}

void StepLoop::look(double ms, StepReport& report) {
    if (ms <= 0 || !tower_.busy()) return;
    try {
        run_tower(ms, report);
    } catch (const Cancelled&) {
        cancel_all();
    } catch (...) {
        const std::exception_ptr error = std::current_exception();
        const std::vector<uint64_t> owners = tower_.owners_of_batch();
        tower_.drop_batch();
        for (const uint64_t id : owners) end(*sequences_.at(id), Answer::End::failed, error);
    }
}

void StepLoop::compute(StepReport& report) {
    Step step = scheduler_.plan();
    for (Entry* e : step.preempted) {
        put_back(of(*e));
        ++counts_.preemptions;
    }
    embed_new(step);
    const double planned = double(step.tokens()) * scheduler_.costs().token_ms;
    move_on(step, report);
    // A pass that took longer than planned takes its time from the pictures.
    const double decode_ms = step.decode.empty() ? 0 : scheduler_.costs().decode_ms;
    const double late = step.prefill.empty() ? 0 : report.pass_ms - decode_ms - planned;
    look(step.vision_ms - std::max(0.0, late), report);
}

bool StepLoop::step() {
    struct Mark {
        bool& stepping;
        explicit Mark(bool& s) : stepping(s) { stepping = true; }
        ~Mark() { stepping = false; }
    };
    const Stopwatch watch;
    StepReport report;
    {
        const Mark mark(stepping_);
        const Clock::time_point now = Clock::now();
        for (Entry* e : scheduler_.overdue(now)) end(of(*e), Answer::End::deadline);
        const Admission admission = scheduler_.admit(now);
        for (Entry* e : admission.displaced) put_back(of(*e));
        for (Entry* e : admission.admitted) begin(of(*e));
        compute(report);
        for (const auto& [id, s] : sequences_)
            if (s->cancelled) end(*s, Answer::End::cancelled);
    }
    sweep();
    ++counts_.steps;
    report.ms = watch.ms();
    counts_.last_step = Clock::now();
    if (options_.on_step) options_.on_step(report);
    return unfinished() > 0;
}

LoopStatus StepLoop::status() const {
    LoopStatus s = counts_;
    s.running = int(scheduler_.running().size());
    s.waiting = scheduler_.waiting();
    s.preempted = scheduler_.preempted();
    const BlockPool& pool = cache_->pool();
    s.blocks_total = pool.size();
    s.blocks_used = pool.size() - pool.available();
    s.blocks_cached = int64_t(pool.remembered().size());
    s.vision_cache_bytes = engine_.vision_cache().bytes();
    s.vision_evictions = engine_.vision_cache().evictions();
    s.costs = scheduler_.costs();
    s.wait_s = scheduler_.estimated_wait_s();
    s.free_seats = scheduler_.short_of_blocks() ? 0 : options_.max_sequences - s.running;
    return s;
}

}  // namespace internvl
