#pragma once
#include <cstdint>
#include <optional>
#include <utility>
#include <vector>

namespace internvl {

// Which frames of a clip are looked at.
struct FrameOptions {
    int num_segments = 8;  // frames, each from the middle of a segment
    std::optional<std::pair<double, double>> bound = {};  // seconds: start and end
};

// The model card's get_index (spec 2.1), in its double arithmetic. The indices may repeat and, with
// an unlucky bound, lie outside of the clip. Throws Error for options and rates that give none.
std::vector<int64_t> frame_indices(const FrameOptions& options, double fps, int64_t frame_count);

}  // namespace internvl
