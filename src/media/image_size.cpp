// The sizes of pictures, read without the libraries that decode them.
#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "media/codecs.h"

namespace internvl {
namespace {

std::string_view name_at(const ByteReader& in, size_t at) {
    const auto bytes = in.range(at, 4);
    return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

uint32_t u24(const ByteReader& in, size_t at) {
    return in.u16(at) | uint32_t(in.u8(at + 2)) << 16;
}

// Where the blocks of bytes that begin at `at` end.
size_t skip_blocks(const ByteReader& in, size_t at) {
    while (const size_t size = in.u8(at)) at += 1 + size;
    return at + 1;
}

size_t palette_bytes(uint8_t flags) {
    return flags & 0x80 ? size_t(3) << ((flags & 7) + 1) : 0;
}

}  // namespace

// From the first frame header on the way from marker to marker.
ImageSize jpeg_size(const Encoded& file) {
    const ByteReader in{file, true};
    for (size_t at = 2;;) {
        while (in.u8(at) != 0xFF) ++at;  // libjpeg steps over what is no marker, too
        while (in.u8(at) == 0xFF) ++at;
        const uint8_t marker = in.u8(at++);
        const bool alone = marker == 0 || marker == 1 || (marker >= 0xD0 && marker <= 0xD8);
        if (alone) continue;
        if (marker == 0xD9 || marker == 0xDA) file.fail("no size before the picture data");
        const bool frame =
            marker >= 0xC0 && marker <= 0xCF && marker != 0xC4 && marker != 0xC8 && marker != 0xCC;
        if (!frame) {
            at += std::max<size_t>(in.u16(at), 2);
            continue;
        }
        if (in.u8(at + 2) != 8) file.unsupported(fmt::format("{} bits", in.u8(at + 2)));
        if ((marker & 3) == 3) file.unsupported("lossless compression");
        return {in.u16(at + 5), in.u16(at + 3)};
    }
}

ImageSize png_size(const Encoded& file) {
    const ByteReader in{file, true};
    if (in.u32(8) != 13 || name_at(in, 12) != "IHDR") file.fail("no header at the beginning");
    const int depth = in.u8(24), colour = in.u8(25);
    const bool plain = depth == 8 || depth == 16;
    const bool small = depth == 1 || depth == 2 || depth == 4;
    const bool known = colour == 0   ? plain || small
                       : colour == 3 ? small || depth == 8
                                     : plain && (colour == 2 || colour == 4 || colour == 6);
    if (!known) file.fail(fmt::format("{} bits of colour type {}", depth, colour));
    return {in.u32(16), in.u32(20)};
}

// The logical screen, grown to hold the first frame.
ImageSize gif_size(const Encoded& file) {
    const ByteReader in{file};
    size_t at = 13 + palette_bytes(in.u8(10));
    for (;;) {
        const uint8_t kind = in.u8(at++);
        if (kind == 0x21) {  // an extension with its label
            at = skip_blocks(in, at + 1);
        } else if (kind == 0x2C) {
            if (in.u16(at + 4) == 0 || in.u16(at + 6) == 0) file.fail("a frame without pixels");
            return {std::max<int64_t>(in.u16(6), in.u16(at) + in.u16(at + 4)),
                    std::max<int64_t>(in.u16(8), in.u16(at + 2) + in.u16(at + 6))};
        } else {
            file.fail("no picture before the end mark");
        }
    }
}

ImageSize webp_size(const Encoded& file) {
    const ByteReader in{file};
    if (name_at(in, 0) != "RIFF") file.fail("no container");
    const std::string_view kind = name_at(in, 12);
    if (kind == "VP8X") return {u24(in, 24) + 1, u24(in, 27) + 1};
    if (kind == "VP8L") {
        const uint32_t bits = in.u32(21);
        if (in.u8(20) != 0x2F) file.fail("no picture in the container");
        return {(bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1};
    }
    if (kind != "VP8 " || u24(in, 23) != 0x2A019D) file.fail("no picture in the container");
    return {in.u16(26) & 0x3FFF, in.u16(28) & 0x3FFF};
}

}  // namespace internvl
