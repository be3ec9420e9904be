#include "model/rope.h"

#include <cmath>

#include "support.h"

namespace internvl {

static TextConfig text_of(const std::string& name) {
    return parse_config(read_text(golden("checkpoints/" + name + "/config.json")), name).text;
}

// The base that a table was made with: the second frequency is base^(-2/head_dim).
static double base_of(const RopeFrequencies& f, int64_t head_dim) {
    return std::pow(1.0 / double(f.inv_freq[1]), double(head_dim) / 2);
}

TEST(Rope, DynamicBasesOfTheSpecification) {
    const std::tuple<double, int64_t, double> cases[] = {
        {2, 32769, 1000062.004}, {2, 40000, 1449795.742}, {3, 40000, 1675568.289},
        {2, 65536, 3052773.675}, {2, 32768, 1e6},         {2, 5, 1e6}};
    TextConfig t;
    t.head_dim = 128;
    t.max_positions = 32768;
    t.rope_theta = 1e6;
    t.rope.kind = RopeScaling::Kind::dynamic_ntk;
    for (const auto& [factor, length, base] : cases) {
        t.rope.factor = factor;
        EXPECT_NEAR(base_of(rope_frequencies(t, length), 128) / base, 1, 2e-5) << length;
    }
}

TEST(Rope, LongFactorsAboveTheOriginalLength) {
    TextConfig t = text_of("tiny-4b");
    const RopeFrequencies few = rope_frequencies(t, 512), many = rope_frequencies(t, 513);
    for (int64_t i = 0; i < t.head_dim / 2; ++i)
        EXPECT_NEAR(few.inv_freq[size_t(i)] / many.inv_freq[size_t(i)],
                    t.rope.long_factors[size_t(i)] / t.rope.short_factors[size_t(i)], 1e-5);
    EXPECT_EQ(few.magnitude, many.magnitude);
    t.max_positions = 131072;
    t.rope.original_positions = 4096;
    EXPECT_FLOAT_EQ(rope_frequencies(t, 1).magnitude, 1.1902380714238083f);
}

// golden: the state of the reference's table after each call, fresh or after longer ones (written
// there with seven digits).
TEST(Rope, ReferenceTablesStay) {
    const TextConfig t = text_of("tiny-2b");
    ReferenceRope rope(t);
    int compared = 0;
    const auto expected_json = read_json(golden("expected/tiny-2b.json"));
    for (const auto& call : expected_json["long"]) {
        if (call["fresh_instance"]) rope = ReferenceRope(t);
        const int64_t prompt = call["length"];
        const auto generated = int64_t(call["generated"].size());
        for (int64_t length = prompt; length < prompt + generated; ++length) rope.at(length);
        const auto expected = call["inv_freq_after"].get<std::vector<float>>();
        const RopeFrequencies& now = rope.at(1);
        ASSERT_EQ(now.inv_freq.size(), expected.size());
        for (size_t i = 0; i < expected.size(); ++i)
            EXPECT_NEAR(now.inv_freq[i] / expected[i], 1, 5e-7) << call["tag"] << ' ' << i;
        ++compared;
    }
    EXPECT_EQ(compared, 9);
}

}  // namespace internvl
