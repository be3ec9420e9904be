#include "engine/scheduler.h"

#include <algorithm>
#include <cassert>
#include <cmath>
#include <limits>
#include <map>
#include <set>
#include <tuple>

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

// It runs no more and holds nothing.
void Scheduler::release(Entry& e) {
    std::erase(running_, &e);
    pool_.give_back(e.blocks);
    e.blocks.clear();
    e.stored = e.known = 0;
    e.running = e.seeing = false;
}

void Scheduler::remove(Entry& e) {
    if (e.running)
        release(e);
    else
        leave_queue(e);
    const auto let_go = [&](const std::vector<Entry*>& entries) {
        for (Entry* other : entries)
            if (other->leader == &e) other->leader = nullptr;
    };
    let_go(running_);  // they may have to wait again
    for (const Queue& q : queues_) let_go(q.waiting);
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

Scheduler::Rank Scheduler::rank(const Entry& e) const {
    const int64_t aged = e.priority - (now_ - e.arrival) / age_step;
    return {std::max<int64_t>(aged, first_priority_), e.id};
}

Entry* Scheduler::first_of(const Queue& q) const {
    Entry* first = nullptr;
    for (Entry* e : q.waiting) {
        if (e->blocked || (e->leader && e->leader->made == 0)) continue;
        if (!first || rank(*e) < rank(*first)) first = e;
    }
    return first;
}

Entry* Scheduler::next() {
    std::optional<int64_t> best;
    for (const Queue& q : queues_)
        if (const Entry* e = first_of(q))
            best = std::min(best.value_or(rank(*e).level), rank(*e).level);
    if (!best) return nullptr;
    for (;;) {
        Queue& q = queues_.front();
        Entry* const e = first_of(q);
        const bool candidate = e && rank(*e).level == *best;
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

// While all seats are taken, of the queues without one the first who waits. Nobody's turn is used
// up.
Entry* Scheduler::seatless() const {
    std::set<std::string_view> seated;
    for (const Entry* r : running_) seated.insert(r->queue);
    Entry* first = nullptr;
    for (const Queue& q : queues_) {
        Entry* const e = seated.contains(q.name) ? nullptr : first_of(q);
        if (e && (!first || rank(*e) < rank(*first))) first = e;
    }
    return first;
}

// False when there is no room for its prompt.
bool Scheduler::seat(Entry& e) {
    if (!take_prompt(e)) return false;
    std::ranges::find(queues_, e.queue, &Queue::name)->deficit -= cost(e);
    leave_queue(e);
    e.running = true;
    running_.push_back(&e);
    return true;
}

// For one of a queue of which nothing runs, the newest of the queue that has most running goes
// back, if it has not been begun. Nothing that was computed is lost.
bool Scheduler::make_way(const Entry& e, Admission& admission) {
    std::map<std::string_view, int> seats;
    for (const Entry* r : running_) ++seats[r->queue];
    if (seats.contains(e.queue)) return false;
    Entry* found = nullptr;
    int64_t blocks = pool_.available();  // that there could be
    for (Entry* r : running_) {
        const int own = seats[r->queue];
        if (own < 2 || r->made > 0 || r->stored > r->known || r->priority < e.priority ||
            r->gave_way >= most_ways)
            continue;
        blocks += int64_t(r->blocks.size());
        if (!found || std::pair(own, r->id) > std::pair(seats[found->queue], found->id)) found = r;
    }
    if (!found || blocks < blocks_for(e.target())) return false;
    release(*found);
    enqueue(*found);
    ++found->gave_way;
    found->blocked = true;
    std::erase(admission.admitted, found);
    admission.displaced.push_back(found);
    return true;
}

Admission Scheduler::admit(Clock::time_point now) {
    Admission admission;
    now_ = now;
    first_priority_ = std::numeric_limits<int>::max();
    for (const Queue& q : queues_)
        for (const Entry* e : q.waiting) first_priority_ = std::min(first_priority_, e->priority);
    std::vector<Entry*> blocked, seatless;
    const auto worn = [](const Entry* b) { return b->overtaken >= most_overtakes; };
    while (std::ranges::none_of(blocked, worn)) {
        const bool full = int(running_.size()) >= options_.max_sequences;
        Entry* const e = full ? this->seatless() : next();
        if (!e) break;
        if (!full && seat(*e)) {
            for (Entry* b : blocked) ++b->overtaken;
            admission.admitted.push_back(e);
        } else if (!make_way(*e, admission)) {
            e->blocked = true;
            (full ? seatless : blocked).push_back(e);
        }
    }
    for (Entry* b : blocked) b->blocked = false;
    for (Entry* b : seatless) b->blocked = false;
    for (Entry* d : admission.displaced) d->blocked = false;
    short_of_blocks_ = !blocked.empty();
    return admission;
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
    release(e);
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

// Those that have work of a kind: of each queue the first, then the second, and so on; of the
// queues the one first that had its share `last` longest ago.
template <class Works>
static std::vector<Entry*> in_turn(const std::vector<Entry*>& running, const Works& works,
                                   int64_t Entry::*last) {
    std::map<std::string_view, int64_t> served;
    std::vector<Entry*> list;
    for (Entry* e : running) {
        int64_t& at = served[e->queue];
        at = std::max(at, e->*last);
        if (works(e)) list.push_back(e);
    }
    std::ranges::sort(list, {}, &Entry::id);
    std::map<std::string_view, int64_t> count;
    std::vector<std::tuple<int64_t, int64_t, Entry*>> ranked;  // place in its queue
    for (Entry* e : list) ranked.emplace_back(count[e->queue]++, served[e->queue], e);
    std::ranges::stable_sort(
        ranked, {}, [](const auto& r) { return std::pair(std::get<0>(r), std::get<1>(r)); });
    for (size_t i = 0; i < list.size(); ++i) list[i] = std::get<2>(ranked[i]);
    return list;
}

// Between blocks, so that every cut is one.
void Scheduler::cut_prompts(Step& step, int64_t tokens) {
    for (Entry* e : in_turn(
             running_, [](const Entry* r) { return r->prefilling() && !r->seeing; },
             &Entry::prefilled_at)) {
        const int64_t rest = e->target() - e->stored;
        int64_t count = std::min(tokens, rest);
        if (count < rest) count -= (e->stored + count) % cache_block;
        if (count <= 0) continue;
        step.prefill.push_back({e, e->stored, count, e->made == 0 && count == rest});
        e->stored += count;
        e->prefilled_at = steps_;
        tokens -= count;
    }
}

Step Scheduler::plan() {
    Step step;
    ++steps_;
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
    if (!options_.lockstep) cut_prompts(step, tokens);
    return step;
}

std::vector<Entry*> Scheduler::to_see() const {
    return in_turn(
        running_, [](const Entry* e) { return e->seeing; }, &Entry::seen_at);
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
