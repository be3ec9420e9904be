#include <algorithm>

#include "media/codecs.h"

namespace internvl {

// The largest picture of the icon; of equal ones that with the fewest colours, then the first
// (Pillow's order). Its transparency mask is dropped, like all alpha.
Image decode_ico(const Encoded& file) {
    struct Entry {
        int pixels = 0, depth = 0;
        size_t offset = 0;
    };
    const ByteReader in{file};
    const size_t count = in.u16(4);
    Entry best;
    for (size_t i = 0; i < count; ++i) {
        const size_t at = 6 + 16 * i;
        const int width = in.u8(at) ? in.u8(at) : 256, height = in.u8(at + 1) ? in.u8(at + 1) : 256;
        const int colours = in.u8(at + 2);
        int depth = in.u16(at + 6);
        if (depth == 0)
            while (colours > 1 && (1 << depth) < colours) ++depth;
        if (depth == 0) depth = 256;
        const Entry entry{width * height, depth, in.u32(at + 12)};
        if (entry.pixels > best.pixels || (entry.pixels == best.pixels && entry.depth < best.depth))
            best = entry;
    }
    if (best.pixels == 0) file.fail("an icon without pictures");

    constexpr uint8_t png_magic[] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};
    const auto start = in.range(best.offset, sizeof png_magic);
    if (std::equal(start.begin(), start.end(), png_magic))
        return decode_png({file.bytes.subspan(best.offset), file.limits, file.where, "PNG in ICO"});
    return decode_dib(file, best.offset, 0, true);
}

}  // namespace internvl
