#include <png.h>

#include <cstdio>
#include <cstring>

#include "media/codecs.h"

namespace internvl {
namespace {

// Everything libpng touches while it may longjmp: plain data, so that no destructor is skipped.
struct Reader {
    png_structp png;
    png_infop info;
    const uint8_t* next;
    size_t left;
    char message[128];
};

void on_error(png_structp png, png_const_charp text) {
    Reader& reader = *static_cast<Reader*>(png_get_error_ptr(png));
    snprintf(reader.message, sizeof reader.message, "%s", text);
    png_longjmp(png, 1);
}

void on_read(png_structp png, png_bytep out, size_t count) {
    Reader& reader = *static_cast<Reader*>(png_get_io_ptr(png));
    if (count > reader.left) png_error(png, "an end of the file inside the picture");
    std::memcpy(out, reader.next, count);
    reader.next += count;
    reader.left -= count;
}

// Both return false with reader.message set.
bool read_header(Reader& reader) {
    if (setjmp(png_jmpbuf(reader.png))) return false;
    png_set_read_fn(reader.png, &reader, on_read);
    png_set_user_limits(reader.png, PNG_UINT_31_MAX, PNG_UINT_31_MAX);  // ours come after
    // Only the chunks that hold the picture are read; text, profiles and times are skipped, so
    // that a broken or bloated one does no harm. Pillow checks every sum up to the pixels (so an
    // error in a skipped chunk counts) and none from there on.
    png_set_keep_unknown_chunks(reader.png, PNG_HANDLE_CHUNK_NEVER, nullptr, -1);
    png_set_crc_action(reader.png, PNG_CRC_ERROR_QUIT, PNG_CRC_ERROR_QUIT);
    png_read_info(reader.png, reader.info);
    png_set_crc_action(reader.png, PNG_CRC_QUIET_USE, PNG_CRC_QUIET_USE);
    return true;
}

// 8-bit RGB rows [height, width * 3], or, for 16-bit gray, big-endian rows [height, width * 2].
bool read_rows(Reader& reader, uint8_t* rows, size_t stride, bool gray16) {
    if (setjmp(png_jmpbuf(reader.png))) return false;
    const int passes = png_set_interlace_handling(reader.png);
    if (!gray16) {
        png_set_strip_16(reader.png);  // the high byte
        png_set_palette_to_rgb(reader.png);
        png_set_expand_gray_1_2_4_to_8(reader.png);
        png_set_gray_to_rgb(reader.png);
        png_set_strip_alpha(reader.png);
    }
    png_read_update_info(reader.png, reader.info);
    if (png_get_rowbytes(reader.png, reader.info) != stride)
        png_error(reader.png, "rows of an unexpected width");
    const png_uint_32 height = png_get_image_height(reader.png, reader.info);
    for (int pass = 0; pass < passes; ++pass)
        for (png_uint_32 y = 0; y < height; ++y)
            png_read_row(reader.png, rows + y * stride, nullptr);
    return true;  // what follows the last row is not looked at, as in Pillow
}

struct Cleanup {
    Reader& reader;
    ~Cleanup() { png_destroy_read_struct(&reader.png, &reader.info, nullptr); }
};

}  // namespace

Image decode_png(const Encoded& file) {
    Reader reader{nullptr, nullptr, file.bytes.data(), file.bytes.size(), {}};
    reader.png = png_create_read_struct(PNG_LIBPNG_VER_STRING, &reader, on_error,
                                        [](png_structp, png_const_charp) {});
    if (reader.png) reader.info = png_create_info_struct(reader.png);
    const Cleanup cleanup{reader};
    if (!reader.info) file.fail("no memory for the PNG reader");
    if (!read_header(reader)) file.fail(reader.message);

    const int64_t width = png_get_image_width(reader.png, reader.info);
    const int64_t height = png_get_image_height(reader.png, reader.info);
    file.check_size(width, height);
    // A few bytes must not claim a picture of hundreds of megabytes.
    constexpr size_t most_expansion = 1032;  // of deflate
    if (size_t(height) >
        most_expansion * file.bytes.size() / png_get_rowbytes(reader.png, reader.info))
        file.fail("far fewer bytes than the size in the header needs");
    Image image = file.canvas(width, height);
    const bool gray16 = png_get_color_type(reader.png, reader.info) == PNG_COLOR_TYPE_GRAY &&
                        png_get_bit_depth(reader.png, reader.info) == 16;
    const size_t pixels = size_t(image.width) * size_t(image.height);
    const size_t pixel_bytes = gray16 ? 2 : 3;
    // Gray rows go to the end of the buffer, so that spreading them forwards overtakes none.
    uint8_t* rows = image.rgb.data() + (image.rgb.size() - pixels * pixel_bytes);
    if (!read_rows(reader, rows, size_t(image.width) * pixel_bytes, gray16))
        file.fail(reader.message);
    if (gray16)
        for (size_t i = 0; i < pixels; ++i) {
            // Clipped, not scaled: that is what Pillow does with 16-bit gray.
            const uint8_t gray = rows[2 * i] ? 255 : rows[2 * i + 1];
            for (size_t c = 0; c < 3; ++c) image.rgb[3 * i + c] = gray;
        }
    return image;
}

}  // namespace internvl
