// Any bytes through every image decoder: a picture within the limits or an Error, nothing else.
#include <cstdlib>

#include "base/error.h"
#include "media/decode.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace internvl;
    const std::span<const uint8_t> bytes(data, size);
    const ImageLimits limits{.max_pixels = 1 << 16, .max_side = 1 << 12, .max_bytes = 1 << 20};
    const int orientation = exif_orientation(bytes);
    try {
        Image image = decode_image(bytes, limits, "fuzz");
        const size_t pixels = size_t(image.width) * size_t(image.height);
        if (pixels == 0 || pixels > size_t(limits.max_pixels) || image.rgb.size() != pixels * 3)
            std::abort();
        if (oriented(std::move(image), orientation).rgb.size() != pixels * 3) std::abort();
        try {
            const ImageHeader header = read_image_header(bytes, limits, "fuzz");
            if (size_t(header.width) * size_t(header.height) != pixels) std::abort();
        } catch (const Error&) {  // a format that strangers may not send
        }
    } catch (const Error&) {
    }
    return 0;
}
