#include "media/frame_index.h"

#include <cmath>

#include "support.h"

namespace internvl {
namespace {

using Indices = std::vector<int64_t>;

// The specification's vectors (2.4): none of them decodes anything.
TEST(FrameIndices, Vectors) {
    const auto indices = [](double fps, int64_t max_frame, int n) {
        return frame_indices({.num_segments = n}, fps, max_frame + 1);
    };
    const auto within = [](double start, double end, double fps, int64_t max_frame, int n) {
        return frame_indices({n, std::pair(start, end)}, fps, max_frame + 1);
    };
    EXPECT_EQ(indices(30, 299, 8), (Indices{18, 55, 93, 130, 168, 205, 242, 280}));
    EXPECT_EQ(indices(25, 99, 16),
              (Indices{3, 9, 15, 22, 28, 34, 40, 46, 53, 59, 65, 71, 77, 83, 90, 96}));
    EXPECT_EQ(
        indices(29.97002997, 900, 32),
        (Indices{14,  42,  70,  98,  126, 155, 183, 211, 239, 267, 295, 323, 352, 380, 408, 436,
                 464, 492, 520, 548, 576, 605, 633, 661, 689, 717, 745, 773, 802, 830, 858, 886}));
    EXPECT_EQ(indices(24, 3, 8), (Indices{0, 0, 1, 1, 2, 2, 2, 3}));
    EXPECT_EQ(indices(30, 0, 4), (Indices{0, 0, 0, 0}));
    EXPECT_EQ(within(1, 5, 30, 299, 8), (Indices{37, 52, 67, 82, 97, 112, 127, 142}));
    EXPECT_EQ(within(2.5, 7.5, 25, 1000, 4), (Indices{77, 109, 140, 171}));
    EXPECT_EQ(within(0, 10, 29.97, 250, 8), (Indices{15, 46, 77, 109, 140, 171, 203, 234}));
    EXPECT_EQ(within(.05, .15, 30, 299, 4), (Indices{2, 2, 3, 4}));
    EXPECT_EQ(indices(30, 19, 8), (Indices{1, 3, 6, 8, 11, 13, 15, 18}));
    EXPECT_EQ(indices(30, 20, 8), (Indices{1, 3, 6, 9, 11, 13, 16, 19}));
    EXPECT_EQ(within(5, 5, 30, 299, 4), (Indices{150, 150, 150, 150}));
    EXPECT_EQ(indices(0.01, 50, 4), (Indices{6, 18, 31, 44}));
    // Said in the text beside them.
    EXPECT_EQ(within(0, 0, 30, 299, 3), (Indices{0, 0, 0}));
    EXPECT_EQ(indices(0, 299, 3), (Indices{0, 0, 0}));
}

TEST(FrameIndices, WhatGivesNone) {
    EXPECT_NE(error_of([] { frame_indices({.num_segments = 0}, 30, 10); }), "");
    EXPECT_NE(error_of([] { frame_indices({}, std::nan(""), 10); }), "");
    EXPECT_NE(error_of([] { frame_indices({8, std::pair(0.0, INFINITY)}, 30, 10); }), "");
    // Far out, but defined: decoding says that there are no such frames.
    EXPECT_GT(frame_indices({1, std::pair(1e300, 1e301)}, 30, 10)[0], 1'000'000);
}

}  // namespace
}  // namespace internvl
