#include "media/frame_index.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "base/error.h"

namespace internvl {

std::vector<int64_t> frame_indices(const FrameOptions& options, double fps, int64_t frame_count) {
    const auto [start, end] = options.bound.value_or(std::pair(-100000.0, 100000.0));
    if (options.num_segments < 1)
        throw Error("a clip needs at least one segment", "1 or more",
                    std::to_string(options.num_segments));
    if (!std::isfinite(start) || !std::isfinite(end))
        throw Error("the bound of a clip is out of range", "two times in seconds",
                    fmt::format("{},{}", start, end));
    if (!std::isfinite(fps))
        throw Error("the clip's frame rate is unknown, so its frames cannot be chosen");
    // Python's round and numpy's: half to even, as rint does.
    const double first = std::max(0.0, std::rint(start * fps));
    const double last = std::min(std::rint(end * fps), double(frame_count - 1));
    const double segment = (last - first) / options.num_segments;
    std::vector<int64_t> indices;
    for (int k = 0; k < options.num_segments; ++k) {
        const double index = first + segment / 2 + std::rint(segment * k);
        // Beyond these there is no frame anyway, and no int64_t further out.
        indices.push_back(int64_t(std::clamp(index, -9e15, 9e15)));
    }
    return indices;
}

}  // namespace internvl
