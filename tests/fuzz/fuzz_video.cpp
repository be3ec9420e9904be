// Any bytes as a clip: frames within the limits or an Error, nothing else. FFmpeg itself is not
// instrumented; its containers' and codecs' behaviour is seen through our calls only.
#include <cstdlib>

#include "base/error.h"
#include "media/clip.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace internvl;
    const std::span<const uint8_t> bytes(data, size);
    const VideoLimits limits{
        .max_pixels = 1 << 18, .max_frames = 1 << 10, .max_decoded = int64_t(1) << 24};
    if (!is_video(bytes)) return 0;
    try {
        const VideoFile video(bytes, limits, "fuzz");
        const int64_t count = video.frame_count();
        if (count < 1 || count > limits.max_frames) std::abort();
        const size_t frame_bytes = size_t(video.width()) * size_t(video.height()) * 3;
        int64_t seen = 0;
        video.decode(std::vector<int64_t>{0, count / 2, -1}, nullptr,
                     [&](int64_t index, Image frame) {
                         ++seen;
                         if (index < 0 || index >= count || frame.rgb.size() != frame_bytes)
                             std::abort();
                     });
        if (seen != (count == 1 ? 1 : count == 2 ? 2 : 3)) std::abort();
    } catch (const Error&) {
    }
    return 0;
}
