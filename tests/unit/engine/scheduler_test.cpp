// Who is computed when, without a model: a simulated clock and random arrivals, what must always
// hold checked at every step.
#include "engine/scheduler.h"

#include <algorithm>
#include <map>
#include <memory>
#include <random>
#include <set>

#include "engine/kv_cache.h"
#include "support.h"

namespace internvl {

using Clock = Entry::Clock;
using namespace std::chrono_literals;

// A request as the simulation knows it.
struct Request {
    Entry entry;
    std::vector<DigestKey> names;
    int64_t pieces = 0;  // of the vision tower's work that are left
    int64_t answer = 0;  // tokens after which it stops
    bool had_turn = false;
    int overtaken = 0;
    size_t named = 0;
};

// Executes what a scheduler decides; everything takes as long as the costs say.
class Simulation {
  public:
    Simulation(int64_t blocks, const SchedulerOptions& options)
        : options_(options), pool_(blocks), scheduler_(pool_, options) {
        StepCosts& c = scheduler_.costs();
        c.decode_ms = 30, c.token_ms = 1, c.piece_ms = 20, c.tile_ms = 20 * pieces_per_tile;
    }

    Request& add(int64_t prompt, int64_t room, const std::string& queue = "", int64_t tiles = 0,
                 int priority = 0) {
        auto r = std::make_unique<Request>();
        r->entry.id = ++last_id_;
        r->entry.queue = queue;
        r->entry.priority = priority;
        r->entry.prompt = prompt;
        r->entry.room = r->answer = room;
        r->entry.tiles = tiles;
        r->pieces = tiles * pieces_per_tile;
        scheduler_.add(r->entry, now);
        all_.push_back(std::move(r));
        return *all_.back();
    }

    void end(Request& r) {
        scheduler_.remove(r.entry);
        ended.push_back(r.entry.id);
        std::erase_if(all_, [&](const auto& one) { return one.get() == &r; });
    }

    // One step, with all that must hold.
    void step() {
        for (Entry* e : scheduler_.overdue(now)) end(of(*e));
        admit();
        const auto oldest = std::ranges::min_element(scheduler_.running(), {}, &Entry::id);
        const Entry* const first = oldest == scheduler_.running().end() ? nullptr : *oldest;
        std::set<Entry*> before;  // that may move on
        for (Entry* e : scheduler_.running())
            if (e->decoding()) before.insert(e);
        const Step step = scheduler_.plan();
        preemptions += int(step.preempted.size());
        for (Entry* e : step.preempted) {
            ASSERT_NE(e, first) << "the oldest was preempted";
            ASSERT_LE(e->preemptions, Scheduler::most_preemptions);
            of(*e).named = 0;
            before.erase(e);
        }
        if (!options_.lockstep && step.decode.size() < before.size()) {
            ASSERT_EQ(pool_.available(), 0) << "an answer waits without need";
        }
        check(step);
        execute(step, !before.empty());
    }

    bool busy() const { return !all_.empty(); }
    Scheduler& scheduler() { return scheduler_; }
    BlockPool& pool() { return pool_; }

    Clock::time_point now{};
    std::vector<uint64_t> turns, ended;  // in order
    int preemptions = 0, most_overtaken = 0;
    double longest_gap_ms = 0;  // of steps in which answers move on
    int64_t steps = 0, known_blocks = 0;
    static constexpr int64_t pieces_per_tile = 24;

  private:
    Request& of(const Entry& e) {
        return **std::ranges::find_if(all_, [&](const auto& r) { return &r->entry == &e; });
    }

    void admit() {
        const Admission admission = scheduler_.admit(now);
        for (Entry* e : admission.displaced) of(*e).named = 0;
        for (Entry* e : admission.admitted) {
            Request& r = of(*e);
            ASSERT_TRUE(e->running);
            known_blocks += e->known / cache_block;
            r.named = size_t(e->known / cache_block);
            e->seeing = r.pieces > 0;
            if (r.had_turn) continue;
            r.had_turn = true;
            turns.push_back(e->id);
            for (const auto& other : all_)  // first come, first served within a queue
                if (!other->entry.running && !other->had_turn && other->entry.id < e->id &&
                    other->entry.queue == e->queue && !other->entry.leader &&
                    other->entry.priority <= e->priority)
                    most_overtaken = std::max(most_overtaken, ++other->overtaken);
        }
    }

    void check(const Step& step) {
        std::map<int32_t, int> holders;
        int64_t prompt_tokens = 0;
        for (const auto& r : all_) {
            const Entry& e = r->entry;
            if (!e.running) {
                ASSERT_TRUE(e.blocks.empty());
            }
            ASSERT_GE(int64_t(e.blocks.size()) * cache_block, e.stored);
            ASSERT_LE(int64_t(e.blocks.size()), blocks_for(e.prompt + e.room));
            ASSERT_FALSE(e.blocked);
            for (size_t i = 0; i < e.blocks.size(); ++i) {
                ++holders[e.blocks[i]];
                if (holders[e.blocks[i]] > 1) {  // what is shared has one content
                    ASSERT_LT(i, r->names.size());
                    ASSERT_EQ(pool_.name_of(e.blocks[i]), r->names[i]);
                }
            }
        }
        ASSERT_EQ(pool_.available(), pool_.size() - int64_t(holders.size())) << "lost blocks";
        ASSERT_LE(int(scheduler_.running().size()), options_.max_sequences);
        for (const Chunk& c : step.prefill) {
            prompt_tokens += c.count;
            ASSERT_FALSE(c.entry->seeing);
            ASSERT_GT(c.count, 0);
            if (!c.last && c.entry->stored < c.entry->target()) {
                ASSERT_EQ((c.first + c.count) % cache_block, 0);
            }
        }
        ASSERT_LE(prompt_tokens, std::max(options_.chunk, cache_block));
        if (!scheduler_.running().empty()) {
            ASSERT_TRUE(!step.decode.empty() || !step.prefill.empty() || step.vision_ms > 0)
                << "nobody moves";
        }
    }

    void execute(const Step& step, bool answers) {
        const StepCosts& c = scheduler_.costs();
        double ms = (step.decode.empty() ? 0 : c.decode_ms) + double(step.tokens()) * c.token_ms;
        double seen = 0;
        for (Entry* e : scheduler_.to_see()) {
            Request& r = of(*e);
            while (e->seeing && step.vision_ms > 0 &&
                   (seen == 0 || seen + c.piece_ms <= step.vision_ms)) {
                seen += c.piece_ms;
                scheduler_.seen(*e);
                if (--r.pieces == 0) e->seeing = false;
            }
        }
        ms += seen;
        if (answers) longest_gap_ms = std::max(longest_gap_ms, ms);
        now += std::chrono::microseconds(int64_t(1000 * ms) + 1);
        ++steps;
        for (const auto& r : all_)
            for (const size_t full =
                     std::min(r->names.size(), size_t(r->entry.stored / cache_block));
                 r->entry.running && r->named < full; ++r->named)
                pool_.name(r->entry.blocks[r->named], r->names[r->named]);
        std::vector<Entry*> moved = step.decode;
        for (const Chunk& chunk : step.prefill)
            if (chunk.last) moved.push_back(chunk.entry);
        for (Entry* e : moved)
            if (++e->made >= of(*e).answer) end(of(*e));
    }

    SchedulerOptions options_;
    BlockPool pool_;
    Scheduler scheduler_;
    std::vector<std::unique_ptr<Request>> all_;
    uint64_t last_id_ = 0;
};

static DigestKey key_of(int64_t content) {
    return Digest().update(&content, sizeof content).key();
}

static void run_to_end(Simulation& sim, int64_t most_steps) {
    for (int64_t i = 0; sim.busy(); ++i) {
        sim.step();
        if (testing::Test::HasFatalFailure()) return;
        ASSERT_LT(i, most_steps) << "somebody never ends";
    }
    EXPECT_EQ(sim.pool().available(), sim.pool().size());
}

// Crowds of every kind: few and many blocks, queues, priorities, pictures, what begins alike,
// choices that follow a first one, those that are cancelled and those whose time is up.
TEST(Scheduler, RandomCrowds) {
    int preemptions = 0;
    int64_t known = 0;
    for (unsigned seed = 0; seed < 150; ++seed) {
        SCOPED_TRACE(seed);
        std::mt19937 random(seed);
        const auto upto = [&](int64_t n) { return int64_t(random() % uint64_t(n)); };
        SchedulerOptions options;
        options.max_sequences = int(1 + upto(10));
        options.chunk = 16 * (1 + upto(20));
        options.step_budget_ms = upto(3) * 100.0;
        options.quantum = 1 + upto(5000);
        options.lockstep = seed % 15 == 14;
        const int64_t blocks = 4 + upto(60), most = blocks * cache_block;
        Simulation sim(blocks, options);
        std::vector<Request*> living;
        std::set<uint64_t> asked;
        for (int i = 0; i < 60; ++i) {
            const int64_t prompt = 1 + upto(std::min<int64_t>(most - 1, 300));
            const int64_t room = 1 + upto(std::min<int64_t>(most - prompt, 120));
            Request& r = sim.add(prompt, room, std::string(1, char('a' + upto(3))),
                                 upto(4) == 0 ? 1 + upto(3) : 0, int(upto(3)) - 1);
            asked.insert(r.entry.id);
            r.answer = 1 + upto(room);
            const int64_t stem = upto(3);
            for (int64_t b = 1; b <= (prompt + room) / cache_block; ++b)
                // The first blocks follow from few stems, later ones are its own.
                r.names.push_back(b <= 4 ? key_of(stem * 100 + b)
                                         : key_of(int64_t(r.entry.id) * 1000 + b));
            if (!options.lockstep) r.entry.names = &r.names;
            if (upto(20) == 0) r.entry.deadline = sim.now + std::chrono::milliseconds(upto(5000));
            for (int64_t n = upto(6); n-- > 0;) {
                if (sim.busy()) sim.step();
                if (HasFatalFailure()) return;
            }
        }
        run_to_end(sim, 200000);
        if (HasFatalFailure()) return;
        EXPECT_EQ(std::set(sim.ended.begin(), sim.ended.end()), asked);
        EXPECT_EQ(sim.ended.size(), asked.size());
        EXPECT_LE(sim.most_overtaken, Scheduler::most_overtakes);
        if (options.step_budget_ms > 0 && !options.lockstep) {
            EXPECT_LE(sim.longest_gap_ms, 30 + options.step_budget_ms + 20);
        }
        preemptions += sim.preemptions;
        known += sim.known_blocks;
        if (options.lockstep) {
            EXPECT_EQ(sim.preemptions, 0);
        }
    }
    EXPECT_GT(preemptions, 100);
    EXPECT_GT(known, 1000);
}

TEST(Scheduler, FirstComeFirstServed) {
    Simulation sim(1000, {.max_sequences = 1});
    for (int i = 0; i < 20; ++i) sim.add(10 + i, 3);
    run_to_end(sim, 1000);
    EXPECT_TRUE(std::ranges::is_sorted(sim.turns));
    EXPECT_TRUE(std::ranges::is_sorted(sim.ended));
}

TEST(Scheduler, PriorityFirstButWaitingCounts) {
    Simulation sim(1000, {.max_sequences = 1});
    sim.add(10, 2, "", 0, 3);
    sim.add(10, 2, "", 0, 1);
    sim.add(10, 2, "", 0, 2);
    run_to_end(sim, 100);
    EXPECT_EQ(sim.turns, (std::vector<uint64_t>{2, 3, 1}));
    // Somebody of higher priority is always there, yet it is not passed by for more than 50 s.
    Simulation crowd(1000, {.max_sequences = 1});
    Request& patient = crowd.add(10, 2, "", 0, 5);
    const uint64_t id = patient.entry.id;
    for (int i = 0; i < 3; ++i) crowd.add(10, 20, "", 0, 0);
    while (std::ranges::find(crowd.turns, id) == crowd.turns.end()) {
        if (crowd.scheduler().waiting() < 4) crowd.add(10, 20, "", 0, 0);
        crowd.step();
        ASSERT_LT(crowd.now - Clock::time_point{}, 55s);
    }
    EXPECT_GT(crowd.now - Clock::time_point{}, 45s);
}

// One key's hundred pictures do not delay another's text by more than one turn: neither in the
// queue, nor when they take all seats, all blocks, or the whole of every step.
TEST(Scheduler, PicturesDoNotDelayAnothersText) {
    for (const int seats : {1, 4, 32}) {
        SCOPED_TRACE(seats);
        Simulation sim(seats == 4 ? 4 * 230 : 100000,
                       {.max_sequences = seats, .chunk = 256, .step_budget_ms = 200});
        for (int i = 0; i < 100; ++i) sim.add(3400, 100, "pictures", 13);
        for (int i = 0; i < 5; ++i) sim.step();
        const size_t before = sim.turns.size();
        Request& text = sim.add(50, 5, "text");
        const uint64_t id = text.entry.id;
        const Clock::time_point asked = sim.now;
        while (std::ranges::find(sim.ended, id) == sim.ended.end()) sim.step();
        const auto turn = std::ranges::find(sim.turns, id) - sim.turns.begin();
        EXPECT_LE(size_t(turn), before + 1);
        // With one seat it waits for the picture that has it: 13 tiles, a prompt, an answer.
        EXPECT_LT(sim.now - asked, seats == 1 ? 14s : 3s);
    }
}

TEST(Scheduler, QueuesShareByCost) {
    Simulation sim(100000, {.max_sequences = 1});
    for (int i = 0; i < 60; ++i) sim.add(2000, 1, "long");
    for (int i = 0; i < 600; ++i) sim.add(200, 1, "short");
    for (int i = 0; i < 220; ++i) {
        while (sim.turns.size() < size_t(i + 1)) sim.step();
    }
    const auto longs = std::ranges::count_if(sim.turns, [](uint64_t id) { return id <= 60; });
    EXPECT_NEAR(double(longs), 20, 3);  // as much work of one as of the other
}

// A long prompt that does not fit is passed by 16 times, then everybody waits for it.
TEST(Scheduler, OvertakenSixteenTimes) {
    Simulation sim(40, {.max_sequences = 8});
    sim.add(20 * 16, 200);
    sim.step();
    const uint64_t large = sim.add(25 * 16, 50).entry.id;
    for (int i = 0; i < 40; ++i) sim.add(16, 2);
    run_to_end(sim, 10000);
    const auto at = std::ranges::find(sim.turns, large) - sim.turns.begin();
    EXPECT_EQ(at, 17);
    EXPECT_EQ(sim.most_overtaken, 16);
}

// Answers that outgrow the blocks: the last ones give way, at most three times each, and the first
// goes on without a break.
TEST(Scheduler, PreemptsTheNewest) {
    Simulation sim(40, {.max_sequences = 8});
    for (int i = 0; i < 8; ++i) sim.add(30, 600);
    int64_t steps = 0;
    while (std::ranges::find(sim.ended, 1u) == sim.ended.end()) {
        sim.step();
        ++steps;
    }
    EXPECT_EQ(steps, 600);
    EXPECT_GE(sim.preemptions, 5);
    run_to_end(sim, 100000);
    EXPECT_TRUE(std::ranges::is_sorted(sim.ended));
}

// api.md 6.1: eight streams run, a picture of 13 tiles arrives.
TEST(Scheduler, StallsAreBounded) {
    for (const double budget : {30.0, 100.0, 200.0}) {
        Simulation sim(10000, {.max_sequences = 32, .chunk = 256, .step_budget_ms = budget});
        for (int i = 0; i < 8; ++i) sim.add(50, 400);
        for (int i = 0; i < 3; ++i) sim.step();
        sim.longest_gap_ms = 0;
        sim.add(3400, 20, "", 13);
        sim.add(3000, 20);
        run_to_end(sim, 100000);
        const StepCosts& c = sim.scheduler().costs();
        EXPECT_LE(sim.longest_gap_ms, c.decode_ms + budget + std::max(c.piece_ms, 16 * c.token_ms));
        EXPECT_GE(sim.longest_gap_ms, c.decode_ms + 0.6 * budget);
    }
}

// Where a step has room for one kind of work only, pictures and prompts take turns.
TEST(Scheduler, NeitherPicturesNorPromptsStarve) {
    Simulation sim(10000, {.max_sequences = 32, .chunk = 256, .step_budget_ms = 20});
    sim.add(50, 3000);
    sim.step();
    const uint64_t picture = sim.add(300, 1, "a", 1).entry.id;
    const uint64_t prompt = sim.add(2000, 1, "b").entry.id;
    while (sim.ended.size() < 2) sim.step();
    EXPECT_EQ(std::set(sim.ended.begin(), sim.ended.end()), (std::set<uint64_t>{picture, prompt}));
    EXPECT_LE(sim.longest_gap_ms, 30 + 20 + 20);
}

// The choices of a request begin when the first one's prompt is there, and find it.
TEST(Scheduler, SiblingsShareAPrompt) {
    Simulation sim(1000, {.max_sequences = 8, .chunk = 64});
    const auto named = [&](Request& r) {
        for (int b = 0; b < 20; ++b) r.names.push_back(key_of(b));
        r.entry.names = &r.names;
    };
    Request& first = sim.add(320, 10);
    named(first);
    for (int i = 0; i < 3; ++i) {
        Request& r = sim.add(320, 10);
        named(r);
        r.entry.leader = &first.entry;
    }
    for (int i = 0; i < 5; ++i) {
        EXPECT_EQ(sim.scheduler().running().size(), size_t(i > 0));
        sim.step();
    }
    sim.step();
    EXPECT_EQ(sim.scheduler().running().size(), 4u);
    EXPECT_EQ(sim.known_blocks, 3 * 19);
    run_to_end(sim, 100);
    // Without the first one they are on their own.
    Request& gone = sim.add(320, 10);
    sim.add(320, 10).entry.leader = &gone.entry;
    sim.end(gone);
    run_to_end(sim, 100);
    // Nor do they look at one that has gone when they have to wait a second time.
    Request& leader = sim.add(320, 10);
    Request& follower = sim.add(320, 100);
    follower.entry.leader = &leader.entry;
    while (!follower.entry.running) sim.step();
    sim.end(leader);
    EXPECT_EQ(follower.entry.leader, nullptr);
    run_to_end(sim, 200);
}

TEST(Scheduler, EstimatesTheWait) {
    Simulation sim(10000, {.max_sequences = 2});
    EXPECT_EQ(sim.scheduler().estimated_wait_s(), 0);
    sim.scheduler().costs().answer_tokens = 100;
    for (int i = 0; i < 4; ++i) sim.add(1000, 100, "", 1);
    // 1000 tokens at 1 ms and a tile of 480 ms each, then two rounds of 100 tokens at 30 ms.
    EXPECT_NEAR(sim.scheduler().estimated_wait_s(), 4 * 1.48 + 2 * 3, 0.01);
    run_to_end(sim, 10000);
}

TEST(StepCosts, FollowWhatIsMeasured) {
    StepCosts c;
    for (int i = 0; i < 50; ++i) {
        c.learn_pass(4, 0, 20);
        c.learn_pass(4, 64, 20 + 64 * 2);
        c.learn_tiles(2, 900);
        c.learn_answer(30);
    }
    EXPECT_NEAR(c.decode_ms, 20, 0.01);
    EXPECT_NEAR(c.token_ms, 2, 0.01);
    EXPECT_NEAR(c.tile_ms, 450, 0.01);
    EXPECT_NEAR(c.answer_tokens, 30, 0.01);
    c.learn_pass(4, 64, 10);  // faster than without the prompt: noise
    EXPECT_GT(c.token_ms, 0);
}

}  // namespace internvl
