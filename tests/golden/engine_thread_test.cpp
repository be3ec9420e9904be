// The engine as a server uses it: from several threads, with people who leave, mistakes and
// limits.
#include "engine/engine_thread.h"

#include <ctime>
#include <future>

#include "reference.h"

namespace internvl {

namespace {

using namespace std::chrono_literals;

Generation text(int tokens, int word = 100) {
    Generation g;
    for (int i = 0; i < 20; ++i) g.prompt.push_back(word + i);
    g.options.max_new_tokens = tokens;
    g.options.ignore_eos = true;
    return g;
}

// Submits and waits for the end.
struct Call {
    std::promise<Answer> promise;
    std::future<Answer> end = promise.get_future();
    uint64_t id = 0;

    Call(EngineThread& engine, Generation g, EngineThread::Place place = {}) {
        g.on_end = [this](Answer a) { promise.set_value(std::move(a)); };
        id = engine.submit(std::move(g), std::move(place));
    }
};

double cpu_seconds() {
    timespec t{};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return double(t.tv_sec) + double(t.tv_nsec) / 1e9;
}

const LoopOptions usual = {.max_sequences = 4, .cache_tokens = 4000};

void expect_idle(const EngineThread& engine) {
    for (int i = 0; i < 1000 && (engine.stalled_s() > 0 || engine.status().blocks_used > 0); ++i)
        std::this_thread::sleep_for(1ms);
    const LoopStatus s = engine.status();
    EXPECT_EQ(s.running + s.waiting + s.preempted, 0);
    EXPECT_EQ(s.blocks_used, 0);
    EXPECT_EQ(engine.stalled_s(), 0);
}

Engine& engine() {
    return reference("tiny-1b").engine();
}

}  // namespace

TEST(EngineThread, AnswersFromAnyThread) {
    std::vector<std::vector<int>> expected;
    for (int i = 0; i < 12; ++i) expected.push_back(engine().generate(text(20, 100 + i)).ids);
    EngineThread thread(engine(), usual);
    std::vector<std::thread> callers;
    for (int c = 0; c < 4; ++c)
        callers.emplace_back([&, c] {
            for (int i = c; i < 12; i += 4) {
                Call call(thread, text(20, 100 + i));
                EXPECT_EQ(call.end.get().ids, expected[size_t(i)]);
            }
        });
    for (std::thread& c : callers) c.join();
    expect_idle(thread);
    EXPECT_EQ(thread.status().generated_tokens, 240);
}

TEST(EngineThread, RestsWhenThereIsNothingToDo) {
    EngineThread thread(engine(), usual);
    Call call(thread, text(3));
    call.end.get();
    expect_idle(thread);
    std::this_thread::sleep_for(50ms);
    const double before = cpu_seconds();
    std::this_thread::sleep_for(300ms);
    EXPECT_LT(cpu_seconds() - before, 0.003);
}

TEST(EngineThread, WhoLeavesIsForgottenWithinAStep) {
    const std::vector<int> expected = engine().generate(text(400)).ids;
    EngineThread thread(engine(), {.max_sequences = 2, .cache_tokens = 4000});
    std::promise<void> begun;
    Generation endless = text(3000);
    int heard = 0;
    endless.on_token = [&](int) {
        if (++heard == 3) begun.set_value();
        return true;
    };
    Call running(thread, std::move(endless)), other(thread, text(400)), waiting(thread, text(5));
    begun.get_future().wait();
    thread.cancel(waiting.id);
    thread.cancel(running.id);
    thread.cancel(12345);
    EXPECT_EQ(waiting.end.get().end, Answer::End::cancelled);
    const Answer left = running.end.get();
    EXPECT_EQ(left.end, Answer::End::cancelled);
    EXPECT_GE(left.ids.size(), 3u);
    EXPECT_EQ(other.end.get().ids, expected);
    expect_idle(thread);
}

// Tiles that nobody waits for are not looked at.
TEST(EngineThread, WhoLeavesWhileItsPictureIsSeen) {
    const auto tiles = std::make_shared<const Tiles>(tiles_of("thirteen_tiles.jpg", 12));
    Generation g = text(5);
    g.unseen = {tiles};
    g.prompt.insert(g.prompt.end(), size_t(tokens_per_tile * tiles->count),
                    engine().context_token());
    g.prompt.push_back(100);
    int seen = 0;
    std::promise<void> looking;
    LoopOptions options = {.max_sequences = 2, .cache_tokens = 8000, .step_budget_ms = 1};
    int steps = 0;
    options.on_step = [&](const StepReport& r) {
        seen += r.tiles;
        if (++steps == 3) looking.set_value();
    };
    {
        EngineThread thread(engine(), options);
        Call call(thread, std::move(g));
        looking.get_future().wait();
        thread.cancel(call.id);
        EXPECT_EQ(call.end.get().end, Answer::End::cancelled);
        expect_idle(thread);
    }
    EXPECT_LT(seen, tiles->count);
}

TEST(EngineThread, OneMistakeIsOneAnswers) {
    const std::vector<int> expected = engine().generate(text(60)).ids;
    EngineThread thread(engine(), usual);
    Generation bad = text(50), worse = text(50);
    int heard = 0;
    bad.on_token = [&](int) -> bool {
        if (++heard == 5) throw std::runtime_error("injected");
        return true;
    };
    worse.on_end = [](Answer) { throw std::runtime_error("injected"); };
    Call failing(thread, std::move(bad)), fine(thread, text(60));
    thread.submit(std::move(worse));
    const Answer answer = failing.end.get();
    EXPECT_EQ(answer.end, Answer::End::failed);
    EXPECT_THROW(std::rethrow_exception(answer.error), std::runtime_error);
    EXPECT_EQ(fine.end.get().ids, expected);
    expect_idle(thread);
    // What can be known before is told before.
    EXPECT_THROW(thread.submit(text(4000)), Error);
    Generation places = text(5);
    places.unseen = {std::make_shared<const Tiles>(tiles_of("rgb_1tile.png", 12))};
    EXPECT_THROW(thread.submit(std::move(places)), Error);
    Generation options = text(5);
    options.options.top_p = 2;
    EXPECT_THROW(thread.submit(std::move(options)), UsageError);
}

// A step that breaks ends those whose work it was: the tower's pictures, or all that move on.
TEST(EngineThread, OneBrokenStepIsNotTheEnd) {
    const std::vector<int> expected = engine().generate(text(60)).ids;
    Generation picture = text(5);
    picture.unseen = {std::make_shared<const Tiles>(tiles_of("rgb_1tile.png", 12))};
    picture.prompt.insert(picture.prompt.end(), size_t(tokens_per_tile), engine().context_token());
    picture.prompt.push_back(100);
    std::atomic<const char*> breaks = "vision/embeddings";
    engine().context().watch = [&](const std::string& stage, const View&) {
        if (stage == breaks.load()) throw std::runtime_error("injected");
    };
    {
        EngineThread thread(engine(), usual);
        Call fine(thread, text(60)), seen(thread, picture);
        EXPECT_EQ(seen.end.get().end, Answer::End::failed);
        EXPECT_EQ(fine.end.get().ids, expected);
        std::promise<void> begun;
        Generation g = text(3000);
        g.on_token = [&, n = 0](int) mutable {
            if (++n == 2) begun.set_value();
            return true;
        };
        Call long_one(thread, std::move(g));
        begun.get_future().wait();
        breaks = "text/embeddings";
        const Answer broken = long_one.end.get();
        EXPECT_EQ(broken.end, Answer::End::failed);
        EXPECT_THROW(std::rethrow_exception(broken.error), std::runtime_error);
        breaks = "";
        expect_idle(thread);
        Call after(thread, text(60)), late(thread, picture);
        EXPECT_EQ(after.end.get().ids, expected);
        EXPECT_EQ(late.end.get().end, Answer::End::length);
        expect_idle(thread);
    }
    engine().context().watch = {};
}

TEST(EngineThread, TimeIsUp) {
    EngineThread thread(engine(), {.max_sequences = 1, .cache_tokens = 4000});
    Generation slow = text(3900), late = text(5);
    slow.deadline = std::chrono::steady_clock::now() + 150ms;
    late.deadline = std::chrono::steady_clock::now() + 50ms;
    Call running(thread, std::move(slow)), waiting(thread, std::move(late));
    EXPECT_EQ(waiting.end.get().end, Answer::End::deadline);
    const Answer answer = running.end.get();
    EXPECT_EQ(answer.end, Answer::End::deadline);
    EXPECT_FALSE(answer.ids.empty());
    expect_idle(thread);
}

TEST(EngineThread, TheQueueHasAnEnd) {
    EngineThread thread(engine(), {.max_sequences = 2, .cache_tokens = 8000, .max_queue = 3});
    std::vector<std::unique_ptr<Call>> calls;
    for (int i = 0; i < 2 + 2; ++i) calls.push_back(std::make_unique<Call>(thread, text(800)));
    {
        const EngineThread::Place place = thread.reserve();
        EXPECT_THROW(thread.reserve(), QueueFull);
        EXPECT_THROW(thread.submit(text(5)), QueueFull);
    }
    calls.push_back(std::make_unique<Call>(thread, text(5), thread.reserve()));
    try {
        thread.submit(text(5));
        FAIL();
    } catch (const QueueFull& e) {
        EXPECT_GE(e.wait_s, 0);
        EXPECT_STREQ(e.what(), "too many requests wait; expected at most 3, found 3");
    }
    EXPECT_EQ(thread.status().running + thread.status().waiting, 5);
    EXPECT_GT(thread.stalled_s(), 0);
    EXPECT_LT(thread.stalled_s(), 1);
    thread.cancel_all();
    for (const auto& call : calls) EXPECT_EQ(call->end.get().end, Answer::End::cancelled);
    expect_idle(thread);
}

TEST(EngineThread, EndsWhatHasNotEnded) {
    std::optional<EngineThread> thread(std::in_place, engine(), usual);
    std::vector<std::unique_ptr<Call>> calls;
    for (int i = 0; i < 10; ++i) calls.push_back(std::make_unique<Call>(*thread, text(2000)));
    thread.reset();
    for (const auto& call : calls) EXPECT_EQ(call->end.get().end, Answer::End::cancelled);
}

}  // namespace internvl
