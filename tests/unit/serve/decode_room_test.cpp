#include "serve/decode_room.h"

#include <gtest/gtest.h>

#include <future>

#include "serve/task_team.h"

namespace internvl {
namespace {

using namespace std::chrono_literals;
using Answer = DecodeRoom::Answer;

std::future<Answer> ask(DecodeRoom& room, int64_t bytes,
                        const std::atomic<bool>* stopped = nullptr) {
    const auto promise = std::make_shared<std::promise<Answer>>();
    room.ask(
        bytes, [stopped] { return stopped && *stopped; },
        [promise](Answer answer) { promise->set_value(answer); });
    return promise->get_future();
}

bool open(std::future<Answer>& answer) {
    return answer.wait_for(60ms) != std::future_status::ready;
}

TEST(DecodeRoom, InOrderAndWhole) {
    DecodeRoom room(100, 10s);
    EXPECT_EQ(ask(room, 60).get(), Answer::granted);
    auto large = ask(room, 90), small = ask(room, 10);
    EXPECT_TRUE(open(large));
    EXPECT_TRUE(open(small));  // does not overtake: else the large one might never come
    EXPECT_EQ(room.waiting(), 2);
    room.give_back(60);
    EXPECT_EQ(large.get(), Answer::granted);
    EXPECT_EQ(small.get(), Answer::granted);
    EXPECT_EQ(room.taken(), 100);
    EXPECT_EQ(ask(room, 101).get(), Answer::no_room);
    room.give_back(100);
    EXPECT_EQ(room.taken(), 0);
}

TEST(DecodeRoom, WhoWaitsMayLeave) {
    DecodeRoom room(100, 300ms);
    EXPECT_EQ(ask(room, 100).get(), Answer::granted);
    std::atomic<bool> stopped = false;
    auto leaves = ask(room, 50, &stopped), tires = ask(room, 50);
    EXPECT_TRUE(open(leaves));
    stopped = true;
    EXPECT_EQ(leaves.wait_for(100ms), std::future_status::ready);
    EXPECT_EQ(leaves.get(), Answer::stopped);
    EXPECT_EQ(tires.get(), Answer::no_room);
    EXPECT_EQ(room.taken(), 100);
    auto last = ask(room, 50);
    room.close();
    EXPECT_EQ(last.get(), Answer::stopped);
    EXPECT_EQ(ask(room, 1).get(), Answer::stopped);
    room.give_back(100);
    EXPECT_EQ(room.taken(), 0);
}

TEST(TaskTeam, DoesEverythingWithSoManyThreads) {
    std::atomic<int> now = 0, most = 0, done = 0;
    {
        TaskTeam team(3);
        for (int i = 0; i < 50; ++i)
            team.post([&] {
                const int here = ++now;
                int seen = most;
                while (here > seen && !most.compare_exchange_weak(seen, here)) continue;
                std::this_thread::sleep_for(1ms);
                --now;
                ++done;
            });
    }
    EXPECT_EQ(done, 50);
    EXPECT_LE(most, 3);
    EXPECT_GE(most, 2);
}

}  // namespace
}  // namespace internvl
