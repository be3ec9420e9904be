#pragma once
#include <chrono>
#include <list>
#include <optional>
#include <string>
#include <vector>

#include "engine/block_pool.h"
#include "engine/loop_status.h"

namespace internvl {

// What the scheduler knows of a sequence. It lies with its owner, who must take it away (remove)
// before it dies.
struct Entry {
    using Clock = std::chrono::steady_clock;

    // What is asked for.
    uint64_t id = 0;  // in the order of arrival
    std::string queue = {};
    int priority = 0;    // lower first
    int64_t prompt = 0;  // tokens
    int64_t room = 0;    // tokens that may follow
    int64_t tiles = 0;   // of its pictures
    std::optional<Clock::time_point> deadline = {};
    Entry* leader = nullptr;  // whose computed prompt it waits for
    // Of its full blocks, growing as tokens come; null: it shares nothing.
    const std::vector<DigestKey>* names = nullptr;

    // How far it is. The owner says `made` and `seeing`, the rest is the scheduler's.
    int64_t made = 0;      // tokens generated
    bool seeing = false;   // its pictures are on their way through the vision tower
    bool running = false;  // else it waits
    Clock::time_point arrival = {};
    std::vector<int32_t> blocks = {};
    int64_t stored = 0;  // tokens whose keys and values lie in them, once the step is done
    int64_t known = 0;   // of these, found when it began
    int preemptions = 0;
    int gave_way = 0;                       // before anything was computed
    int overtaken = 0;                      // by others, while it did not fit
    int64_t prefilled_at = 0, seen_at = 0;  // steps in which it had its last share of such work
    bool blocked = false;                   // it does not fit or has given way, in this admission

    // Tokens that must be stored before the next one can be chosen.
    int64_t target() const { return made == 0 ? prompt : prompt + made - 1; }
    bool prefilling() const { return running && stored < target(); }
    bool decoding() const { return running && made > 0 && stored == target(); }
};

// Who runs from now on, and who had to give way and waits again.
struct Admission {
    std::vector<Entry*> admitted, displaced;
};

// Tokens of a prompt, or of what has to be computed again.
struct Chunk {
    Entry* entry;
    int64_t first, count;
    bool last;  // its end gives the first token of an answer
};

// What to compute in one step.
struct Step {
    std::vector<Entry*> preempted;  // whose blocks are gone; they wait again
    std::vector<Entry*> decode;     // these move on by one token
    std::vector<Chunk> prefill;
    // How long pictures may be looked at; 0: not at all, else at least one piece.
    double vision_ms = 0;
    int64_t tokens() const;  // of `prefill`
};

struct SchedulerOptions {
    int max_sequences = 8;      // running at a time
    int64_t chunk = 512;        // prompt tokens a step
    double step_budget_ms = 0;  // of a step for pictures and prompts while answers run, 0 = any
    bool lockstep = false;      // nobody moves on while a prompt is computed, nobody is preempted
    int64_t quantum = 4096;     // tokens' worth of work that a queue gets each round
};

// Decides who is computed when. It knows neither tensors nor models, and its clock is the caller's.
//
// Order: the lowest priority first, where ten seconds of waiting count as one level, up to that of
// the first who waits; within a level deficit round-robin over the queues by cost, within a queue
// the first first. One that does not fit may be overtaken by later ones 16 times. A queue of which
// nothing runs need not wait for the work of another to end: what has not been begun of it gives
// way. Blocks: a sequence begins with room for its prompt, when one more for each that runs is
// left, and takes blocks as its answer grows. When none is left, the newest of the last priority
// loses its own and is computed again later: at most three times, then it gets all that it may need
// at once. The oldest never does.
class Scheduler {
  public:
    using Clock = Entry::Clock;
    static constexpr int most_overtakes = 16, most_preemptions = 3, most_ways = 3;
    static constexpr std::chrono::seconds age_step{10};

    Scheduler(BlockPool&, const SchedulerOptions&);

    void add(Entry&, Clock::time_point now);
    void remove(Entry&);  // ended, or not wanted any more
    std::vector<Entry*> overdue(Clock::time_point now) const;
    // Known blocks of the admitted are held, blocks for the rest of their prompts are taken.
    Admission admit(Clock::time_point now);
    Step plan();

    // Running ones whose pictures are to be seen, by whose turn it is: of each queue the first,
    // then the second; of queues the one first that had nothing for longest.
    std::vector<Entry*> to_see() const;
    void seen(Entry& e) { e.seen_at = steps_; }                      // it had a share of this step
    const std::vector<Entry*>& running() const { return running_; }  // in the order of admission
    int waiting() const;
    int preempted() const;                                     // waiting ones that had begun
    bool short_of_blocks() const { return short_of_blocks_; }  // in the last admission
    // Seconds until one that comes now would have its turn, by what work costs here.
    double estimated_wait_s() const;

    StepCosts& costs() { return costs_; }
    const StepCosts& costs() const { return costs_; }

  private:
    struct Queue {
        std::string name;
        double deficit;
        std::vector<Entry*> waiting = {};
    };
    void enqueue(Entry&);
    void release(Entry&);
    void leave_queue(const Entry&);
    double cost(const Entry&) const;
    // Whose turn it is: by priority and waiting, then by arrival.
    struct Rank {
        int64_t level;
        uint64_t id;
        auto operator<=>(const Rank&) const = default;
    };
    Rank rank(const Entry&) const;
    Entry* first_of(const Queue&) const;
    Entry* next();
    Entry* seatless() const;
    bool seat(Entry&);
    bool make_way(const Entry&, Admission&);
    bool take_prompt(Entry&);
    int64_t reserve() const;
    bool grow(Entry&, Step&);
    Entry* victim() const;
    void preempt(Entry&, Step&);
    void share_budget(Step&, int64_t& tokens);
    void cut_prompts(Step&, int64_t tokens);

    BlockPool& pool_;
    SchedulerOptions options_;
    std::list<Queue> queues_;  // with somebody waiting; in front the one whose turn it is
    std::vector<Entry*> running_;
    StepCosts costs_;
    Clock::time_point now_{};  // of the admission
    int first_priority_ = 0;   // of those that wait then
    int64_t steps_ = 0;
    bool short_of_blocks_ = false;
    bool pictures_turn_ = false;  // where a step has time for one kind of work only
};

}  // namespace internvl
