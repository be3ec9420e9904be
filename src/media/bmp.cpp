#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "media/codecs.h"

namespace internvl {
namespace {

using Palette = std::array<std::array<uint8_t, 3>, 256>;

enum Compression : uint32_t { raw = 0, rle8 = 1, rle4 = 2, bitfields = 3 };

struct Header {
    int64_t width = 0, height = 0;
    bool top_down = false;
    int bits = 0;
    uint32_t compression = raw;
    int64_t colours = 0;
    int entry_bytes = 4;  // of the palette
    std::array<uint32_t, 4> masks{};
    size_t end = 0;  // where the palette begins
};

// Where the bytes of red, green and blue stand in a 3- or 4-byte pixel.
struct ByteOrder {
    int red = 2, green = 1, blue = 0;
};

void read_masks(const ByteReader& in, size_t start, size_t size, Header& header) {
    // Larger headers hold the masks; after a 40-byte one they follow, without one for alpha.
    const size_t count = size >= 56 ? 4 : 3;
    for (size_t i = 0; i < count; ++i) header.masks[i] = in.u32(start + 40 + 4 * i);
    if (size < 52) header.end += 12;
}

Header read_header(const Encoded& file, const ByteReader& in, size_t start) {
    const size_t size = in.u32(start);
    Header header;
    header.end = start + size;
    if (size == 12) {
        header.width = in.u16(start + 4);
        header.height = in.u16(start + 6);
        header.bits = in.u16(start + 10);
        header.entry_bytes = 3;
    } else if (size == 40 || size == 52 || size == 56 || size == 64 || size == 108 || size == 124) {
        header.width = in.u32(start + 4);
        header.height = in.u32(start + 8);
        header.top_down = header.height >> 24 == 0xFF;  // a small negative number
        if (header.top_down) header.height = (int64_t(1) << 32) - header.height;
        header.bits = in.u16(start + 14);
        header.compression = in.u32(start + 16);
        header.colours = in.u32(start + 32);
        if (header.compression == bitfields) read_masks(in, start, size, header);
    } else {
        file.unsupported(fmt::format("a header of {} bytes", size));
    }
    constexpr int depths[] = {1, 4, 8, 16, 24, 32};
    if (std::find(std::begin(depths), std::end(depths), header.bits) == std::end(depths))
        file.unsupported(fmt::format("{} bits per pixel", header.bits));
    if (header.compression > bitfields)
        file.unsupported(fmt::format("compression {}", header.compression));
    if (header.colours == 0 && header.bits <= 8) header.colours = int64_t(1) << header.bits;
    return header;
}

Palette read_palette(const Encoded& file, const ByteReader& in, const Header& header) {
    if (header.colours > 65536)
        file.unsupported(fmt::format("a palette of {} colours", header.colours));
    Palette palette{};
    const size_t entry = size_t(header.entry_bytes);
    const size_t count = std::min<size_t>(size_t(header.colours), palette.size());
    const auto bytes = in.range(header.end, count * entry);
    for (size_t i = 0; i < count; ++i)
        palette[i] = {bytes[i * entry + 2], bytes[i * entry + 1], bytes[i * entry]};
    return palette;
}

// The layouts of masks that Pillow knows.
ByteOrder byte_order(const Encoded& file, const Header& header) {
    if (header.compression != bitfields) return {};
    const auto& m = header.masks;
    using Masks = std::array<uint32_t, 4>;
    struct Layout {
        Masks masks;
        ByteOrder order;
    };
    constexpr uint32_t b0 = 0xFF, b1 = 0xFF00, b2 = 0xFF0000, b3 = 0xFF000000;
    constexpr Layout layouts[] = {
        {{b2, b1, b0, 0}, {2, 1, 0}},  {{b3, b2, b1, 0}, {3, 2, 1}},  {{b3, b1, b0, 0}, {3, 1, 0}},
        {{b3, b2, b1, b0}, {3, 2, 1}}, {{b0, b1, b2, b3}, {0, 1, 2}}, {{b2, b1, b0, b3}, {2, 1, 0}},
        {{b3, b1, b0, b2}, {3, 1, 0}}, {{0, 0, 0, 0}, {2, 1, 0}},
    };
    for (const Layout& layout : layouts) {
        const bool colours_match = std::equal(m.begin(), m.begin() + 3, layout.masks.begin());
        if (header.bits == 24 && colours_match && layout.masks[0] == b2) return layout.order;
        if (header.bits == 32 && colours_match && m[3] == layout.masks[3]) return layout.order;
    }
    file.unsupported(fmt::format("colour masks {:x} {:x} {:x} {:x} with {} bits", m[0], m[1], m[2],
                                 m[3], header.bits));
}

// Bits of green in a 16-bit pixel, 5 or 6.
int green_bits(const Encoded& file, const Header& header) {
    if (header.compression != bitfields) return 5;
    const auto& m = header.masks;
    if (m[0] == 0xF800 && m[1] == 0x7E0 && m[2] == 0x1F) return 6;
    if (m[0] == 0x7C00 && m[1] == 0x3E0 && m[2] == 0x1F) return 5;
    file.unsupported(fmt::format("16-bit colour masks {:x} {:x} {:x}", m[0], m[1], m[2]));
}

uint8_t* row_of(Image& image, const Header& header, int64_t row) {
    const int64_t y = header.top_down ? row : image.height - 1 - row;
    return &image.rgb[size_t(y) * size_t(image.width) * 3];
}

void unpack_indices(std::span<const uint8_t> row, int bits, const Palette& palette, int width,
                    uint8_t* out) {
    const int per_byte = 8 / bits;
    for (int x = 0; x < width; ++x) {
        const int shift = 8 - bits * (x % per_byte + 1);
        const int index = row[size_t(x / per_byte)] >> shift & ((1 << bits) - 1);
        out = std::copy(palette[size_t(index)].begin(), palette[size_t(index)].end(), out);
    }
}

void unpack_16(std::span<const uint8_t> row, int green, int width, uint8_t* out) {
    const int green_max = (1 << green) - 1;
    for (int x = 0; x < width; ++x) {
        const int pixel = row[size_t(2 * x)] | row[size_t(2 * x + 1)] << 8;
        *out++ = uint8_t((pixel >> (5 + green) & 31) * 255 / 31);
        *out++ = uint8_t((pixel >> 5 & green_max) * 255 / green_max);
        *out++ = uint8_t((pixel & 31) * 255 / 31);
    }
}

void read_raw(const Encoded& file, const ByteReader& in, const Header& header, size_t pixels,
              const Palette& palette, Image& image) {
    const size_t stride = size_t((header.width * header.bits + 31) / 32 * 4);
    const ByteOrder order = header.bits >= 24 ? byte_order(file, header) : ByteOrder{};
    const int green = header.bits == 16 ? green_bits(file, header) : 0;
    const size_t used = size_t((header.width * header.bits + 7) / 8);
    for (int64_t y = 0; y < image.height; ++y) {
        // The padding of the last row may be missing.
        const auto row = in.range(pixels + size_t(y) * stride, used);
        uint8_t* out = row_of(image, header, y);
        if (header.bits <= 8) {
            unpack_indices(row, header.bits, palette, image.width, out);
        } else if (header.bits == 16) {
            unpack_16(row, green, image.width, out);
        } else {
            const size_t step = size_t(header.bits / 8);
            for (size_t at = 0; at < used; at += step) {
                *out++ = row[at + size_t(order.red)];
                *out++ = row[at + size_t(order.green)];
                *out++ = row[at + size_t(order.blue)];
            }
        }
    }
}

// Run lengths, as Pillow reads them: a run is cut at the row's end, skipped pixels have colour 0,
// and the picture must end up complete or at its end mark.
struct RleReader {
    const ByteReader& in;
    size_t at;
    bool four_bits;
    size_t width, total;
    std::vector<uint8_t> indices;

    void encoded(size_t count, uint8_t value, size_t& x) {
        count = std::min(count, width - std::min(x, width));
        for (size_t i = 0; i < count && indices.size() < total; ++i)
            indices.push_back(!four_bits ? value : i % 2 == 0 ? value >> 4 : value & 15);
        x += count;
    }

    void absolute(size_t count, size_t& x) {
        const size_t kept = std::min(count, total - indices.size());
        const auto bytes = in.range(at, four_bits ? (kept + 1) / 2 : kept);
        for (size_t i = 0; i < kept; ++i)
            indices.push_back(!four_bits   ? bytes[i]
                              : i % 2 == 0 ? bytes[i / 2] >> 4
                                           : bytes[i / 2] & 15);
        at += bytes.size();
        at += at % 2;  // chunks are padded to 16 bits, counted from the file's start
        x += count;
    }

    void run() {
        for (size_t x = 0; indices.size() < total;) {
            const uint8_t count = in.u8(at), value = in.u8(at + 1);
            at += 2;
            if (count) {
                encoded(count, value, x);
            } else if (value == 0) {
                indices.resize((indices.size() + width - 1) / width * width);
                x = 0;
            } else if (value == 1) {
                return;
            } else if (value == 2) {
                const size_t skip = in.u8(at) + size_t(in.u8(at + 1)) * width;
                at += 2;
                indices.resize(indices.size() + std::min(skip, total - indices.size()));
                x = indices.size() % width;
            } else {
                absolute(value, x);
            }
        }
    }
};

void read_rle(const Encoded& file, const ByteReader& in, const Header& header, size_t pixels,
              const Palette& palette, Image& image) {
    const size_t width = size_t(image.width), height = size_t(image.height);
    RleReader reader{in, pixels, header.compression == rle4, width, width * height, {}};
    reader.run();
    if (reader.indices.size() < reader.total)
        file.fail("an end mark before the picture is complete");
    for (size_t y = 0; y < height; ++y) {
        uint8_t* out = row_of(image, header, int64_t(y));
        for (size_t x = 0; x < width; ++x) {
            const auto& colour = palette[reader.indices[y * width + x]];
            out = std::copy(colour.begin(), colour.end(), out);
        }
    }
}

}  // namespace

Image decode_dib(const Encoded& file, size_t start, size_t pixels, bool icon) {
    const ByteReader in{file};
    Header header = read_header(file, in, start);
    if (icon) header.height /= 2;
    file.check_size(header.width, header.height);

    const bool indexed = header.bits <= 8;
    const size_t palette_bytes = indexed ? size_t(header.entry_bytes * header.colours) : 0;
    const bool packed = header.compression == rle8 || header.compression == rle4;
    if (packed && !indexed) file.unsupported("run lengths without a palette");
    if (header.compression == bitfields && indexed) file.unsupported("colour masks with a palette");
    const Palette palette = indexed ? read_palette(file, in, header) : Palette{};
    // Some writers forget the palette when they fill in where the pixels begin.
    if (pixels == 0 || (indexed && pixels == header.end)) pixels = header.end + palette_bytes;

    if (!packed)  // compare with the file's length before making room
        in.range(pixels, size_t((header.width * header.bits + 31) / 32 * 4 * (header.height - 1)));
    Image image = file.canvas(header.width, header.height);
    (packed ? read_rle : read_raw)(file, in, header, pixels, palette, image);
    return image;
}

Image decode_bmp(const Encoded& file) {
    const ByteReader in{file};
    return decode_dib(file, 14, in.u32(10), false);
}

ImageSize bmp_size(const Encoded& file) {
    const Header header = read_header(file, {file}, 14);
    if (header.compression == rle8 || header.compression == rle4) file.unsupported("run lengths");
    return {header.width, header.height};
}

}  // namespace internvl
