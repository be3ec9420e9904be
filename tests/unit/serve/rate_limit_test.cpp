#include "serve/rate_limit.h"

#include <gtest/gtest.h>

namespace internvl {

using namespace std::chrono_literals;

TEST(RateLimiter, RefillsRequestsWithTime) {
    RateLimiter limiter;
    const ClientLimits limits{.rpm = 6};
    const Clock::time_point now{};
    for (int i = 0; i < 6; ++i) EXPECT_TRUE(limiter.enter("a", limits, now).allowed);
    const auto refused = limiter.enter("a", limits, now);
    EXPECT_FALSE(refused.allowed);
    EXPECT_EQ(refused.retry_after, 10);
    EXPECT_TRUE(limiter.enter("b", limits, now).allowed);
    EXPECT_FALSE(limiter.enter("a", limits, now + 9s).allowed);
    EXPECT_TRUE(limiter.enter("a", limits, now + 10s).allowed);
    EXPECT_FALSE(limiter.enter("a", limits, now + 10s).allowed);
}

TEST(RateLimiter, CountsWhatIsBeingAnswered) {
    RateLimiter limiter;
    const ClientLimits limits{.concurrency = 2};
    const Clock::time_point now{};
    EXPECT_TRUE(limiter.enter("a", limits, now).allowed);
    EXPECT_TRUE(limiter.enter("a", limits, now).allowed);
    EXPECT_FALSE(limiter.enter("a", limits, now).allowed);
    limiter.leave("a");
    EXPECT_TRUE(limiter.enter("a", limits, now).allowed);
}

TEST(RateLimiter, ChargesPromptsAndAnswers) {
    RateLimiter limiter;
    const ClientLimits limits{.tpm = 600};
    const Clock::time_point now{};
    EXPECT_TRUE(limiter.enter("a", limits, now).allowed);
    EXPECT_FALSE(limiter.take_tokens("a", limits, 500, now));
    EXPECT_EQ(limiter.take_tokens("a", limits, 200, now), 10);  // 100 are left, 10 come a second
    limiter.charge("a", 150);                                   // now 50 are owed
    const auto verdict = limiter.enter("a", limits, now);
    EXPECT_FALSE(verdict.allowed);
    EXPECT_EQ(verdict.retry_after, 6);
    EXPECT_FALSE(limiter.take_tokens("a", limits, 100, now + 16s));
    // More than a minute's tokens need a full bucket and leave a debt.
    EXPECT_TRUE(limiter.take_tokens("a", limits, 10'000, now + 30s));
    EXPECT_FALSE(limiter.take_tokens("a", limits, 10'000, now + 120s));
    EXPECT_EQ(limiter.take_tokens("a", limits, 1, now + 121s), 60);
}

TEST(RateLimiter, TellsWhatIsLeft) {
    RateLimiter limiter;
    const auto verdict = limiter.enter("a", {.rpm = 3, .tpm = 60}, {});
    Headers wanted{{"x-ratelimit-limit-requests", "3"},    {"x-ratelimit-remaining-requests", "2"},
                   {"x-ratelimit-reset-requests", "20s"},  {"x-ratelimit-limit-tokens", "60"},
                   {"x-ratelimit-remaining-tokens", "60"}, {"x-ratelimit-reset-tokens", "0s"}};
    EXPECT_EQ(verdict.headers, wanted);
    EXPECT_TRUE(limiter.enter("a", {}, {}).headers.empty());
}

}  // namespace internvl
