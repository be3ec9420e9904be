// What api.md 1.2 adds to the reference's sampling.
#include "engine/sampler.h"

#include <algorithm>
#include <cmath>

#include "support.h"

namespace internvl {

namespace {

GenerateOptions greedy(auto change) {
    GenerateOptions o;
    o.penalise_start = false;
    change(o);
    return o;
}

// The ids that greedy choices give over some steps with the same logits.
std::vector<int> choose(const GenerateOptions& o, std::vector<float> logits, int steps,
                        int stop = 99) {
    Sampler s(o, 0, stop);
    std::vector<int> history;
    for (int i = 0; i < steps; ++i) history.push_back(s.next(logits, history));
    return history;
}

// The rules of 1.2 in double precision, written down plainly.
std::vector<int> choose_plainly(const GenerateOptions& o, const std::vector<float>& logits,
                                int steps) {
    std::vector<int> history;
    for (int step = 0; step < steps; ++step) {
        std::vector<double> scores(logits.begin(), logits.end());
        for (size_t i = 0; i < scores.size(); ++i) {
            const auto count = std::ranges::count(history, int(i));
            if (count == 0) continue;
            scores[i] = scores[i] < 0 ? scores[i] * double(o.repetition_penalty)
                                      : scores[i] / double(o.repetition_penalty);
            scores[i] -= double(o.presence_penalty) + double(o.frequency_penalty) * double(count);
        }
        for (const auto& [id, bias] : o.logit_bias) scores[size_t(id)] += double(bias);
        history.push_back(int(std::ranges::max_element(scores) - scores.begin()));
    }
    return history;
}

}  // namespace

// P6.
TEST(Sampler, PenalisesWhatTheAnswerHolds) {
    const std::vector<float> logits = {1.913f, 2.002f, 1.729f, 1.541f, -1, 0.437f};
    for (const float repetition : {1.0f, 1.3f, 0.7f})
        for (const float presence : {0.0f, 0.6f, -0.4f})
            for (const float frequency : {0.0f, 0.25f, -0.1f}) {
                const GenerateOptions o = greedy([&](GenerateOptions& g) {
                    g.repetition_penalty = repetition;
                    g.presence_penalty = presence;
                    g.frequency_penalty = frequency;
                    g.logit_bias = {{3, 0.3f}};
                });
                EXPECT_EQ(choose(o, logits, 12), choose_plainly(o, logits, 12))
                    << repetition << ' ' << presence << ' ' << frequency;
            }
}

TEST(Sampler, TheStartTokenCountsForTheReferenceOnly) {
    const std::vector<float> logits = {2, 1.9f};
    EXPECT_EQ(choose(greedy([](GenerateOptions& g) { g.repetition_penalty = 2; }), logits, 1)[0],
              0);
    EXPECT_EQ(choose(greedy([](GenerateOptions& g) {
                         g.repetition_penalty = 2;
                         g.penalise_start = true;
                     }),
                     logits, 1)[0],
              1);
}

// P5.
TEST(Sampler, BiasForcesAndForbids) {
    const std::vector<float> logits = {5, 1, 0};
    EXPECT_EQ(choose(greedy([](GenerateOptions& g) {
                         g.logit_bias = {{2, 100}};
                     }),
                     logits, 2),
              (std::vector<int>{2, 2}));
    EXPECT_EQ(choose(greedy([](GenerateOptions& g) {
                         g.logit_bias = {{0, -100}};
                     }),
                     logits, 1)[0],
              1);
}

// P8.
TEST(Sampler, StopTokensAreBannedAtFirst) {
    const std::vector<float> logits = {1, 5, 4, 3};  // 1 is the stop token
    const auto with = [&](auto change, int steps) {
        return choose(greedy(change), logits, steps, 1);
    };
    EXPECT_EQ(with([](GenerateOptions&) {}, 1), std::vector<int>{1});
    EXPECT_EQ(with(
                  [](GenerateOptions& g) {
                      g.min_new_tokens = 2;
                      g.stop_token_ids = {2};
                  },
                  3),
              (std::vector<int>{3, 3, 1}));
    EXPECT_EQ(with([](GenerateOptions& g) { g.ban_eos = true; }, 3), (std::vector<int>{2, 2, 2}));
    Sampler s(greedy([](GenerateOptions& g) { g.stop_token_ids = {3}; }), 0, 1);
    EXPECT_TRUE(s.stops(1) && s.stops(3));
    EXPECT_FALSE(s.stops(2));
    Sampler on(greedy([](GenerateOptions& g) { g.ignore_eos = true; }), 0, 1);
    EXPECT_FALSE(on.stops(1));
}

// P7.
TEST(Sampler, TiesAtTheKthStay) {
    const float logits[] = {3, 1, 2, 2, 2, 0};
    GenerateOptions o;
    o.do_sample = true;
    o.top_k = 2;
    EXPECT_EQ(Sampler(o, 0, 9).distribution(logits, {}).size(), 4u);
    o.top_k = 1;
    o.temperature = 0.5f;
    EXPECT_EQ(Sampler(o, 0, 9).distribution(logits, {}).size(), 1u);
}

// R4: choices have random numbers of their own; the first has those of the seed.
TEST(Sampler, ChoicesDrawApart) {
    EXPECT_EQ(uniform_at(7, 0, 3), uniform_at(7, 0, 3));
    EXPECT_NE(uniform_at(7, 0, 3), uniform_at(7, 1, 3));
    EXPECT_NE(uniform_at(7, 1, 3), uniform_at(7, 2, 3));
    EXPECT_NE(uniform_at(7, 1, 3), uniform_at(8, 1, 3));
    double sum = 0, product = 0;
    constexpr int n = 20000;
    for (uint64_t i = 0; i < n; ++i) {
        const double a = uniform_at(7, 1, i), b = uniform_at(7, 2, i);
        sum += a;
        product += (a - 0.5) * (b - 0.5);
    }
    EXPECT_NEAR(sum / n, 0.5, 0.01);
    EXPECT_NEAR(product / n, 0, 0.005);
}

// P7: a chi-square over draws of eight tokens; 24.3 is passed by 99.9 % of fair ones.
TEST(Sampler, DrawsAreFair) {
    GenerateOptions o;
    o.do_sample = true;
    o.seed = 5;
    o.choice = 3;
    const std::vector<float> logits = {0, 1, 2, 0.5f, -1, 1.5f, -2, 0.1f};
    Sampler s(o, 0, 99);
    double total = 0;
    for (const float x : logits) total += std::exp(double(x));
    std::vector<int> counts(logits.size()), history;
    constexpr int n = 10000;
    for (int i = 0; i < n; ++i) {
        ++counts[size_t(s.next(logits, history))];
        history.push_back(0);
    }
    double chi = 0;
    for (size_t i = 0; i < logits.size(); ++i) {
        const double expected = n * std::exp(double(logits[i])) / total;
        chi += (counts[i] - expected) * (counts[i] - expected) / expected;
    }
    EXPECT_LT(chi, 24.3);
}

}  // namespace internvl
