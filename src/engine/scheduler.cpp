#include "engine/scheduler.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>
#include <map>

#include "engine/kv_cache.h"

namespace internvl {

int64_t Step::tokens() const {
    int64_t sum = 0;
    for (const Chunk& c : prefill) sum += c.count;
    return sum;
}

Scheduler::Scheduler(BlockPool& pool, const SchedulerOptions& options)
    : pool_(pool), options_(options) {
    // Prompts are cut between blocks.
    options_.chunk = std::max(options_.chunk, cache_block);
}

void Scheduler::add(Entry& e, Clock::time_point now) {
    assert(blocks_for(e.prompt + e.room) <= pool_.size());
    e.arrival = now;
    enqueue(e);
}

void Scheduler::enqueue(Entry& e) {
    auto q = std::ranges::find(queues_, e.queue, &Queue::name);
    if (q == queues_.end()) q = queues_.insert(queues_.end(), {e.queue, double(options_.quantum)});
    q->waiting.push_back(&e);
}

void Scheduler::leave_queue(const Entry& e) {
    const auto q = std::ranges::find(queues_, e.queue, &Queue::name);
    std::erase(q->waiting, &e);
    if (q->waiting.empty()) queues_.erase(q);
}

void Scheduler::remove(Entry& e) {
    if (e.running) {
        std::erase(running_, &e);
        pool_.give_back(e.blocks);
        e.blocks.clear();
        e.running = false;
    } else {
        leave_queue(e);
    }
    for (const Queue& q : queues_)
        for (Entry* w : q.waiting)
            if (w->leader == &e) w->leader = nullptr;
}

std::vector<Entry*> Scheduler::overdue(Clock::time_point now) const {
    std::vector<Entry*> list;
    const auto look = [&](const std::vector<Entry*>& entries) {
        for (Entry* e : entries)
            if (e->deadline && *e->deadline <= now) list.push_back(e);
    };
    look(running_);
    for (const Queue& q : queues_) look(q.waiting);
    return list;
}

// In tokens of a prompt. What has begun was paid for.
double Scheduler::cost(const Entry& e) const {
    if (e.preemptions > 0) return 0;
    constexpr double usual_tile = 1000;
    const bool measured = costs_.token_ms > 0 && costs_.tile_ms > 0;
    const double tile = measured ? costs_.tile_ms / costs_.token_ms : usual_tile;
    return double(e.prompt) + tile * double(e.tiles);
}

int64_t Scheduler::level(const Entry& e, Clock::time_point now) const {
    return e.priority - (now - e.arrival) / age_step;
}

Entry* Scheduler::first_of(const Queue& q, Clock::time_point now) const {
    Entry* first = nullptr;
    for (Entry* e : q.waiting) {
        if (e->blocked || (e->leader && e->leader->made == 0)) continue;
        if (!first || std::pair(level(*e, now), e->id) < std::pair(level(*first, now), first->id))
            first = e;
    }
    return first;
}

Entry* Scheduler::next(Clock::time_point now) {
    int64_t best = std::numeric_limits<int64_t>::max();
    for (const Queue& q : queues_)
        if (const Entry* e = first_of(q, now)) best = std::min(best, level(*e, now));
    if (best == std::numeric_limits<int64_t>::max()) return nullptr;
    for (;;) {
        Queue& q = queues_.front();
        Entry* const e = first_of(q, now);
        const bool candidate = e && level(*e, now) == best;
        if (candidate && q.deficit >= cost(*e)) return e;
        if (candidate) q.deficit += double(options_.quantum);
        queues_.splice(queues_.end(), queues_, queues_.begin());
    }
}

// Blocks that the running ones may want next.
int64_t Scheduler::reserve() const {
    int64_t sum = 0;
    for (const Entry* e : running_)
        sum += int64_t(e->blocks.size()) < blocks_for(e->prompt + e->room);
    return sum;
}

bool Scheduler::take_prompt(Entry& e) {
    std::vector<int32_t> blocks;
    if (e.names) {
        // The last token of a prompt is always computed, for its logits.
        const int64_t usable = (e.made == 0 ? e.prompt - 1 : e.target()) / cache_block;
        const std::span<const DigestKey> names(*e.names);
        blocks = pool_.hold_known(names.first(std::min(names.size(), size_t(usable))));
    }
    const int64_t all = blocks_for(e.prompt + e.room);
    const bool whole = options_.lockstep || e.preemptions >= most_preemptions;
    const int64_t wanted = whole ? all : std::max(blocks_for(e.target()), int64_t(blocks.size()));
    const int64_t more = wanted - int64_t(blocks.size());
    const int64_t spare = running_.empty() ? 0 : reserve() + (wanted < all);
    if (pool_.available() < more + spare) {
        pool_.give_back(blocks);
        return false;
    }
    e.stored = e.known = int64_t(blocks.size()) * cache_block;
    const std::vector<int32_t> own = pool_.take_several(more);
    blocks.insert(blocks.end(), own.begin(), own.end());
    e.blocks = std::move(blocks);
    return true;
}

std::vector<Entry*> Scheduler::admit(Clock::time_point now) {
    std::vector<Entry*> admitted, blocked;
    while (int(running_.size()) < options_.max_sequences) {
        Entry* const e = next(now);
        if (!e) break;
        if (!take_prompt(*e)) {
            e->blocked = true;
            blocked.push_back(e);
            if (e->overtaken >= most_overtakes) break;
            continue;
        }
        for (Entry* b : blocked) ++b->overtaken;
        queues_.front().deficit -= cost(*e);
        leave_queue(*e);
        e->running = true;
        running_.push_back(e);
        admitted.push_back(e);
        if (std::ranges::any_of(blocked,
                                [](const Entry* b) { return b->overtaken >= most_overtakes; }))
            break;
    }
    for (Entry* b : blocked) b->blocked = false;
    short_of_blocks_ = !blocked.empty();
    return admitted;
}

// The newest of the last priority; not the oldest of all.
Entry* Scheduler::victim() const {
    const Entry* const oldest = *std::ranges::min_element(running_, {}, &Entry::id);
    Entry* found = nullptr;
    for (Entry* e : running_) {
        if (e == oldest || e->preemptions >= most_preemptions || e->blocks.empty()) continue;
        if (!found || std::pair(e->priority, e->id) > std::pair(found->priority, found->id))
            found = e;
    }
    return found;
}

void Scheduler::preempt(Entry& e, Step& step) {
    std::erase(running_, &e);
    pool_.give_back(e.blocks);
    e.blocks.clear();
    e.stored = e.known = 0;
    e.running = e.seeing = false;
    ++e.preemptions;
    enqueue(e);
    step.preempted.push_back(&e);
}

// Room for one token more; false when there is none for it in this step.
bool Scheduler::grow(Entry& e, Step& step) {
    if (e.stored < int64_t(e.blocks.size()) * cache_block) return true;
    while (pool_.available() == 0) {
        Entry* const v = victim();
        if (!v) return false;  // those that will not give way have all they need and will end
        preempt(*v, step);
        if (v == &e) return false;
    }
    e.blocks.push_back(pool_.take());
    return true;
}

// While answers run, the budget is for pictures and prompts together.
void Scheduler::share_budget(Step& step, int64_t& tokens) {
    const double budget = options_.step_budget_ms;
    const bool pictures = std::ranges::any_of(running_, &Entry::seeing);
    const bool prompts =
        std::ranges::any_of(running_, [](const Entry* e) { return e->prefilling() && !e->seeing; });
    const double any = std::numeric_limits<double>::infinity();
    // Without answers it only says how long one may have to wait to be heard.
    step.vision_ms = pictures ? (budget > 0 ? budget : any) : 0;
    const bool answers = std::ranges::any_of(running_, &Entry::decoding);
    if (budget <= 0 || !answers) return;
    const double least = double(cache_block) * costs_.token_ms;
    double share = budget;
    if (pictures && prompts) {
        share = budget / 2;
        if (least + costs_.piece_ms > budget) {  // no room for both
            pictures_turn_ = !pictures_turn_;
            share = pictures_turn_ ? 0 : budget;
        }
    }
    if (!prompts || share == 0) {
        tokens = 0;
        return;
    }
    // Nothing measured: the least, to measure it.
    const double fit = costs_.token_ms > 0 ? share / costs_.token_ms : 0;
    tokens =
        std::clamp(int64_t(std::min(fit, 1e9)) / cache_block * cache_block, cache_block, tokens);
    if (!pictures) return;
    int64_t wanted = 0;
    for (const Entry* e : running_)
        if (e->prefilling() && !e->seeing) wanted += e->target() - e->stored;
    step.vision_ms = share == budget
                         ? 0
                         : std::max(budget - double(std::min(tokens, wanted)) * costs_.token_ms,
                                    costs_.piece_ms);
}

// Between blocks, so that every cut is one.
void Scheduler::cut_prompts(Step& step, int64_t tokens) {
    for (Entry* e : in_turn()) {
        if (!e->prefilling() || e->seeing) continue;
        const int64_t rest = e->target() - e->stored;
        int64_t count = std::min(tokens, rest);
        if (count < rest) count -= (e->stored + count) % cache_block;
        if (count <= 0) continue;
        step.prefill.push_back({e, e->stored, count, e->made == 0 && count == rest});
        e->stored += count;
        tokens -= count;
    }
}

Step Scheduler::plan() {
    Step step;
    int64_t tokens = options_.chunk;
    if (options_.lockstep) {
        step.vision_ms = std::ranges::any_of(running_, &Entry::seeing)
                             ? std::numeric_limits<double>::infinity()
                             : 0;
        cut_prompts(step, tokens);
        if (!step.prefill.empty()) return step;
    }
    std::vector<Entry*> ready;
    std::ranges::copy_if(running_, std::back_inserter(ready), &Entry::decoding);
    std::ranges::sort(ready, {}, &Entry::id);
    std::erase_if(ready, [&](Entry* e) { return e->running && !grow(*e, step); });
    for (Entry* e : ready)
        if (e->running) step.decode.push_back(e);
    share_budget(step, tokens);
    for (Entry* e : step.decode) ++e->stored;
    if (!options_.lockstep) {
        // What moves on in this step is no prompt, though its token is not stored yet.
        cut_prompts(step, tokens);
    }
    return step;
}

std::vector<Entry*> Scheduler::in_turn() const {
    std::vector<Entry*> list = running_;
    std::ranges::sort(list, {}, &Entry::id);
    std::map<std::string_view, int> seen;
    std::vector<std::pair<int, Entry*>> ranked;
    for (Entry* e : list) {
        // Those that only generate are in nobody's way.
        const bool works = e->seeing || e->prefilling();
        ranked.emplace_back(works ? seen[e->queue]++ : 0, e);
    }
    std::ranges::stable_sort(ranked, {}, &std::pair<int, Entry*>::first);
    for (size_t i = 0; i < list.size(); ++i) list[i] = ranked[i].second;
    return list;
}

int Scheduler::waiting() const {
    size_t count = 0;
    for (const Queue& q : queues_) count += q.waiting.size();
    return int(count);
}

int Scheduler::preempted() const {
    int count = 0;
    for (const Queue& q : queues_)
        count += int(
            std::ranges::count_if(q.waiting, [](const Entry* e) { return e->preemptions > 0; }));
    return count;
}

double Scheduler::estimated_wait_s() const {
    double work = 0;
    for (const Queue& q : queues_)
        for (const Entry* e : q.waiting)
            work += double(e->target()) * costs_.token_ms + double(e->tiles) * costs_.tile_ms;
    for (const Entry* e : running_)
        work += double(e->target() - e->stored) * costs_.token_ms +
                (e->seeing ? double(e->tiles) * costs_.tile_ms : 0);
    // Beside answers it advances by the budget a step.
    if (options_.step_budget_ms > 0 && std::ranges::any_of(running_, &Entry::decoding))
        work *= 1 + costs_.decode_ms / options_.step_budget_ms;
    const int more = waiting() + 1 + int(running_.size()) - options_.max_sequences;
    const double rounds = std::ceil(std::max(0, more) / double(options_.max_sequences));
    return (work + rounds * costs_.answer_tokens * costs_.decode_ms) / 1000;
}

}  // namespace internvl
