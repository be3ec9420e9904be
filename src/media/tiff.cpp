#include <fmt/format.h>
#include <tiffio.h>

#include <algorithm>
#include <array>
#include <cstdarg>
#include <cstdio>
#include <cstring>
#include <memory>

#include "media/codecs.h"
#include "media/decode.h"

namespace internvl {
namespace {

using Tiff = std::unique_ptr<TIFF, void (*)(TIFF*)>;

// The file in memory, as libtiff's callbacks see it, with the first error it reported.
struct Source {
    std::span<const uint8_t> bytes;
    uint64_t at = 0;
    std::string error;
};

Source& source_of(thandle_t handle) {
    return *static_cast<Source*>(handle);
}

tmsize_t on_read(thandle_t handle, void* out, tmsize_t count) {
    Source& source = source_of(handle);
    if (count <= 0 || source.at >= source.bytes.size()) return 0;
    const size_t got = std::min<uint64_t>(uint64_t(count), source.bytes.size() - source.at);
    std::memcpy(out, source.bytes.data() + source.at, got);
    source.at += got;
    return tmsize_t(got);
}

toff_t on_seek(thandle_t handle, toff_t offset, int whence) {
    Source& source = source_of(handle);
    const uint64_t base = whence == SEEK_CUR   ? source.at
                          : whence == SEEK_END ? source.bytes.size()
                                               : 0;
    return source.at = base + offset;
}

int on_error(TIFF*, void* user, const char*, const char* format, va_list arguments) {
    std::string& error = static_cast<Source*>(user)->error;
    char text[200];
    vsnprintf(text, sizeof text, format, arguments);
    if (error.empty()) error = text;
    return 1;  // handled: nothing is printed
}

Tiff open(const Encoded& file, Source& source) {
    const std::unique_ptr<TIFFOpenOptions, void (*)(TIFFOpenOptions*)> options(
        TIFFOpenOptionsAlloc(), TIFFOpenOptionsFree);
    const int64_t most =
        16 * std::min<int64_t>(file.limits.max_pixels, int64_t(1) << 40) + (1 << 20);
    TIFFOpenOptionsSetMaxSingleMemAlloc(options.get(), tmsize_t(most));
    TIFFOpenOptionsSetErrorHandlerExtR(options.get(), on_error, &source);
    TIFFOpenOptionsSetWarningHandlerExtR(
        options.get(), [](TIFF*, void*, const char*, const char*, va_list) { return 1; }, nullptr);
    Tiff tiff(TIFFClientOpenExt(
                  file.where.c_str(), "rm", &source, on_read,
                  [](thandle_t, void*, tmsize_t) { return tmsize_t(0); }, on_seek,
                  [](thandle_t) { return 0; },
                  [](thandle_t handle) { return toff_t(source_of(handle).bytes.size()); },
                  [](thandle_t, void**, toff_t*) { return 0; }, [](thandle_t, void*, toff_t) {},
                  options.get()),
              TIFFClose);
    if (!tiff) file.fail(source.error.empty() ? "a broken directory" : source.error);
    return tiff;
}

struct Layout {
    uint32_t width = 0, height = 0;
    uint16_t bits = 1, samples = 1, format = SAMPLEFORMAT_UINT,
             photometric = PHOTOMETRIC_MINISWHITE;
    bool separate = false, premultiplied = false;
    uint16_t orientation = ORIENTATION_TOPLEFT;

    bool gray() const {
        return photometric == PHOTOMETRIC_MINISWHITE || photometric == PHOTOMETRIC_MINISBLACK;
    }
    // How many of the samples make the colour.
    size_t used() const {
        if (gray() || photometric == PHOTOMETRIC_PALETTE) return 1;
        return photometric == PHOTOMETRIC_SEPARATED || premultiplied ? 4 : 3;
    }
};

void check_layout(const Encoded& file, const Layout& layout, uint16_t compression) {
    if (layout.photometric != PHOTOMETRIC_RGB && layout.photometric != PHOTOMETRIC_SEPARATED &&
        layout.photometric != PHOTOMETRIC_PALETTE && !layout.gray())
        file.unsupported(fmt::format("photometric interpretation {} with compression {}",
                                     layout.photometric, compression));
    const int bits = layout.bits;
    const bool whole = layout.format == SAMPLEFORMAT_UINT;
    bool known = bits == 8 || (bits == 16 && whole);
    if (layout.photometric == PHOTOMETRIC_PALETTE)
        known = bits == 8 || ((bits == 1 || bits == 2 || bits == 4) && layout.samples == 1);
    if (layout.gray() && layout.samples == 1)
        known = known || (whole && (bits == 1 || bits == 2 || bits == 4 || bits == 12)) ||
                (layout.format == SAMPLEFORMAT_INT && bits == 16) || bits == 32;
    if (layout.format > SAMPLEFORMAT_IEEEFP || (!whole && bits < 8)) known = false;
    if (layout.samples < layout.used() || layout.samples > 8) known = false;
    if (layout.gray() && layout.premultiplied) known = false;
    if (!known)
        file.unsupported(fmt::format("{} samples of {} bits (sample format {}, photometric {})",
                                     layout.samples, bits, layout.format, layout.photometric));
}

Layout read_layout(const Encoded& file, TIFF* tiff) {
    Layout layout;
    TIFFGetField(tiff, TIFFTAG_IMAGEWIDTH, &layout.width);
    TIFFGetField(tiff, TIFFTAG_IMAGELENGTH, &layout.height);
    file.check_size(layout.width, layout.height);
    uint16_t planar = 1, compression = 1, extra_count = 0;
    const uint16_t* extra = nullptr;
    TIFFGetFieldDefaulted(tiff, TIFFTAG_BITSPERSAMPLE, &layout.bits);
    TIFFGetFieldDefaulted(tiff, TIFFTAG_SAMPLESPERPIXEL, &layout.samples);
    TIFFGetFieldDefaulted(tiff, TIFFTAG_SAMPLEFORMAT, &layout.format);
    TIFFGetFieldDefaulted(tiff, TIFFTAG_PLANARCONFIG, &planar);
    TIFFGetFieldDefaulted(tiff, TIFFTAG_COMPRESSION, &compression);
    TIFFGetFieldDefaulted(tiff, TIFFTAG_ORIENTATION, &layout.orientation);
    TIFFGetField(tiff, TIFFTAG_PHOTOMETRIC, &layout.photometric);
    TIFFGetFieldDefaulted(tiff, TIFFTAG_EXTRASAMPLES, &extra_count, &extra);
    layout.separate = planar == PLANARCONFIG_SEPARATE && layout.samples > 1;
    layout.premultiplied = extra_count > 0 && extra[0] == EXTRASAMPLE_ASSOCALPHA;
    if (layout.photometric == PHOTOMETRIC_YCBCR && compression == COMPRESSION_JPEG) {
        TIFFSetField(tiff, TIFFTAG_JPEGCOLORMODE, JPEGCOLORMODE_RGB);
        layout.photometric = PHOTOMETRIC_RGB;
    }
    check_layout(file, layout, compression);
    return layout;
}

template <class T>
T number(const uint8_t* at) {
    T value;
    std::memcpy(&value, at, sizeof value);
    return value;
}

template <class T>
uint8_t clip(T value) {
    return value > T(255) ? 255 : value > T(0) ? uint8_t(value) : 0;  // NaN gives 0
}

// The 8-bit value of sample `i` of a row: wide gray is clipped, wide colour keeps its high byte,
// narrow gray is spread to 0..255, palette indices stay.
uint8_t sample(const Layout& layout, const uint8_t* row, size_t i) {
    const int bits = layout.bits;
    if (bits == 8) return row[i];
    if (bits == 16) {
        if (!layout.gray() || layout.samples > 1)
            return uint8_t(number<uint16_t>(row + 2 * i) >> 8);
        return layout.format == SAMPLEFORMAT_INT ? clip(number<int16_t>(row + 2 * i))
                                                 : clip(number<uint16_t>(row + 2 * i));
    }
    if (bits == 32)
        return layout.format == SAMPLEFORMAT_IEEEFP ? clip(number<float>(row + 4 * i))
                                                    : clip(number<int32_t>(row + 4 * i));
    if (bits == 12) {
        const uint8_t* pair = row + i / 2 * 3;
        return clip(i % 2 ? (pair[1] & 15) << 8 | pair[2] : pair[0] << 4 | pair[1] >> 4);
    }
    const size_t per_byte = size_t(8 / bits);
    const int most = (1 << bits) - 1;
    const int value = row[i / per_byte] >> (8 - bits * int(i % per_byte + 1)) & most;
    return uint8_t(layout.photometric == PHOTOMETRIC_PALETTE ? value : value * 255 / most);
}

// Reads every strip or tile. Returns the used samples, [height, width, used].
std::vector<uint8_t> read_samples(const Encoded& file, TIFF* tiff, const Layout& layout,
                                  Source& source) {
    uint32_t block_width = layout.width, block_height = layout.height;
    const bool tiled = TIFFIsTiled(tiff);
    if (tiled) {
        TIFFGetField(tiff, TIFFTAG_TILEWIDTH, &block_width);
        TIFFGetField(tiff, TIFFTAG_TILELENGTH, &block_height);
    } else {
        TIFFGetFieldDefaulted(tiff, TIFFTAG_ROWSPERSTRIP, &block_height);
        block_height = std::min(block_height, layout.height);
    }
    file.check_size(block_width, block_height);
    const size_t row_bytes = size_t(tiled ? TIFFTileRowSize(tiff) : TIFFScanlineSize(tiff));
    const size_t per_row = size_t(block_width) * (layout.separate ? 1 : layout.samples);
    if (row_bytes < (per_row * layout.bits + 7) / 8) file.fail("rows of an unexpected size");

    const size_t used = layout.used(), width = layout.width;
    std::vector<uint8_t> block(row_bytes * block_height);
    std::vector<uint8_t> samples(width * layout.height * used);
    const size_t planes = layout.separate ? used : 1;
    for (size_t plane = 0; plane < planes; ++plane)
        for (uint32_t top = 0; top < layout.height; top += block_height)
            for (uint32_t left = 0; left < layout.width; left += block_width) {
                const uint32_t rows = std::min(block_height, layout.height - top);
                const auto index = uint16_t(plane);
                const tmsize_t want = tmsize_t(row_bytes * (tiled ? block_height : rows));
                const tmsize_t got =
                    tiled ? TIFFReadTile(tiff, block.data(), left, top, 0, index)
                          : TIFFReadEncodedStrip(tiff, TIFFComputeStrip(tiff, top, index),
                                                 block.data(), want);
                if (got < want) file.fail(source.error.empty() ? "missing rows" : source.error);
                const size_t columns = std::min(block_width, layout.width - left);
                for (uint32_t y = 0; y < rows; ++y) {
                    const uint8_t* row = block.data() + y * row_bytes;
                    uint8_t* out = &samples[((top + y) * width + left) * used];
                    for (size_t x = 0; x < columns; ++x)
                        if (layout.separate)
                            out[x * used + plane] = sample(layout, row, x);
                        else
                            for (size_t s = 0; s < used; ++s)
                                out[x * used + s] = sample(layout, row, x * layout.samples + s);
                }
            }
    return samples;
}

void to_rgb(const Layout& layout, TIFF* tiff, const std::vector<uint8_t>& samples, Image& image) {
    const size_t pixels = image.rgb.size() / 3, used = layout.used();
    std::array<uint16_t*, 3> map{};
    const bool palette = layout.photometric == PHOTOMETRIC_PALETTE;
    if (palette) TIFFGetField(tiff, TIFFTAG_COLORMAP, &map[0], &map[1], &map[2]);
    // Pillow inverts white-is-zero only up to 8 bits.
    const uint8_t flip = layout.photometric == PHOTOMETRIC_MINISWHITE && layout.bits <= 8 ? 255 : 0;
    for (size_t i = 0; i < pixels; ++i) {
        const uint8_t* in = &samples[i * used];
        uint8_t* out = &image.rgb[3 * i];
        if (layout.photometric == PHOTOMETRIC_SEPARATED)
            cmyk_to_rgb(in[0], in[1], in[2], in[3], out);
        else
            for (size_t c = 0; c < 3; ++c)
                if (palette)
                    out[c] = uint8_t(map[c] ? map[c][in[0]] >> 8 : 0);
                else if (layout.gray())
                    out[c] = in[0] ^ flip;
                else if (layout.premultiplied)
                    out[c] = in[3] ? uint8_t(std::min(255, 255 * in[c] / in[3])) : 0;
                else
                    out[c] = in[c];
    }
}

}  // namespace

// The first directory. Unlike EXIF in other formats, Pillow honours a TIFF's orientation.
Image decode_tiff(const Encoded& file) {
    Source source{file.bytes, 0, {}};
    const Tiff tiff = open(file, source);
    const Layout layout = read_layout(file, tiff.get());
    const std::vector<uint8_t> samples = read_samples(file, tiff.get(), layout, source);
    Image image = file.canvas(layout.width, layout.height);
    to_rgb(layout, tiff.get(), samples, image);
    return oriented(std::move(image), layout.orientation);
}

}  // namespace internvl
