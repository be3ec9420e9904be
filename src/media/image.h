#pragma once
#include <cstdint>
#include <vector>

namespace internvl {

// A decoded picture: 8-bit RGB, rows from the top, [height, width, 3].
struct Image {
    int width = 0, height = 0;
    std::vector<uint8_t> rgb;
};

// What an untrusted file may ask for. Checked against the header, before anything is decoded.
struct ImageLimits {
    int64_t max_pixels = 178'956'970;      // twice Pillow's warning level: where Pillow refuses
    int max_side = 131'072;                // pixels; bounds the memory of a resize
    int64_t max_bytes = int64_t(1) << 30;  // of the encoded file
};

}  // namespace internvl
