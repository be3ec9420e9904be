#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <utility>

#include "media/image.h"

// Inside of the media folder: what decode_image hands to the codecs.
namespace internvl {

// An encoded picture with its rules and its name for errors.
struct Encoded {
    std::span<const uint8_t> bytes;
    const ImageLimits& limits;
    const std::string& where;
    const char* format;  // for messages: "JPEG"

    // Both throw MediaFault.
    [[noreturn]] void fail(const std::string& reason) const;
    [[noreturn]] void unsupported(const std::string& feature) const;

    // Throws MediaFault unless a picture of width x height lies within the limits. Every codec
    // calls this (or canvas) with the header's numbers before it allocates or decodes.
    void check_size(int64_t width, int64_t height) const;
    // A black picture of that size, checked.
    Image canvas(int64_t width, int64_t height) const;
};

// Bounds-checked little- and big-endian numbers; reading past the end throws through Encoded.
struct ByteReader {
    const Encoded& source;
    bool big_endian = false;

    uint8_t u8(size_t at) const;
    uint16_t u16(size_t at) const;
    uint32_t u32(size_t at) const;
    std::span<const uint8_t> range(size_t at, size_t count) const;
};

Image decode_jpeg(const Encoded& file);
Image decode_png(const Encoded& file);
Image decode_webp(const Encoded& file);
Image decode_gif(const Encoded& file);
Image decode_bmp(const Encoded& file);
Image decode_tiff(const Encoded& file);
Image decode_pnm(const Encoded& file);
Image decode_ico(const Encoded& file);

// Width and height as decode_... will find them, from the first bytes that tell; nothing is decoded
// and nothing allocated. They fail as the decoders do.
using ImageSize = std::pair<int64_t, int64_t>;
ImageSize jpeg_size(const Encoded& file);
ImageSize png_size(const Encoded& file);
ImageSize webp_size(const Encoded& file);
ImageSize gif_size(const Encoded& file);
ImageSize bmp_size(const Encoded& file);  // also refuses compressed ones

// The bitmap whose info header begins at `header`. Pixels lie at `pixels`, or, when 0, right after
// the palette. `icon`: the height counts a mask that is not part of the picture.
Image decode_dib(const Encoded& file, size_t header, size_t pixels, bool icon);

// Pillow's CMYK to RGB, no colour profile: `out[3]` from plain (not inverted) inks (spec 1.1.1).
inline void cmyk_to_rgb(int c, int m, int y, int k, uint8_t* out) {
    const int white = 255 - k;
    const int inks[3] = {c, m, y};
    for (int i = 0; i < 3; ++i) {
        const int t = inks[i] * white + 128;
        const int v = white - (((t >> 8) + t) >> 8);
        out[i] = uint8_t(v < 0 ? 0 : v);
    }
}

}  // namespace internvl
