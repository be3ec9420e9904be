#include <fmt/format.h>

#include <csetjmp>
#include <cstddef>
#include <cstdio>
// jpeglib.h needs size_t and FILE declared before it.
#include <jerror.h>
#include <jpeglib.h>

#include "media/codecs.h"

namespace internvl {
namespace {

// A progressive file of a few bytes per scan could ask for hours of work; encoders write about 10.
constexpr int max_scans = 500;

// Everything libjpeg touches while it may longjmp: plain data, so that no destructor is skipped.
struct Reader {
    jpeg_decompress_struct info;
    jpeg_error_mgr errors;
    jpeg_source_mgr source;
    jpeg_progress_mgr progress;
    jmp_buf escape;
    char message[JMSG_LENGTH_MAX];
};

Reader& reader_of(j_common_ptr info) {
    return *static_cast<Reader*>(info->client_data);
}

void on_error(j_common_ptr info) {
    Reader& reader = reader_of(info);
    info->err->format_message(info, reader.message);
    longjmp(reader.escape, 1);
}

void on_missing_data(Reader& reader) {
    snprintf(reader.message, sizeof reader.message, "an end of the file inside the picture");
    longjmp(reader.escape, 1);
}

void on_progress(j_common_ptr info) {
    Reader& reader = reader_of(info);
    if (reader.info.input_scan_number <= max_scans) return;
    snprintf(reader.message, sizeof reader.message, "more than %d scans", max_scans);
    longjmp(reader.escape, 1);
}

void open(Reader& reader, std::span<const uint8_t> bytes) {
    reader.info.err = jpeg_std_error(&reader.errors);
    reader.info.client_data = &reader;
    reader.errors.error_exit = on_error;
    reader.errors.output_message = [](j_common_ptr) {};  // warnings: Pillow accepts the picture
    reader.source.next_input_byte = bytes.data();
    reader.source.bytes_in_buffer = bytes.size();
    reader.source.init_source = [](j_decompress_ptr) {};
    reader.source.term_source = [](j_decompress_ptr) {};
    reader.source.resync_to_restart = jpeg_resync_to_restart;
    reader.source.fill_input_buffer = [](j_decompress_ptr info) -> boolean {
        on_missing_data(reader_of(j_common_ptr(info)));
        return FALSE;
    };
    reader.source.skip_input_data = [](j_decompress_ptr info, long count) {
        if (count <= 0) return;
        if (size_t(count) > info->src->bytes_in_buffer)
            on_missing_data(reader_of(j_common_ptr(info)));
        info->src->next_input_byte += count;
        info->src->bytes_in_buffer -= size_t(count);
    };
    reader.progress.progress_monitor = on_progress;
}

// Both return false with reader.message set.
bool read_header(Reader& reader) {
    if (setjmp(reader.escape)) return false;
    jpeg_create_decompress(&reader.info);
    reader.info.src = &reader.source;
    reader.info.progress = &reader.progress;
    jpeg_read_header(&reader.info, TRUE);
    return true;
}

// rows: [height] of width * components bytes, `stride` apart.
bool read_rows(Reader& reader, uint8_t* rows, size_t stride) {
    if (setjmp(reader.escape)) return false;
    jpeg_start_decompress(&reader.info);
    while (reader.info.output_scanline < reader.info.output_height) {
        JSAMPROW row = rows + reader.info.output_scanline * stride;
        jpeg_read_scanlines(&reader.info, &row, 1);
    }
    jpeg_finish_decompress(&reader.info);  // reads on to the end mark: Pillow insists on it
    return true;
}

struct Cleanup {
    Reader& reader;
    ~Cleanup() { jpeg_destroy_decompress(&reader.info); }
};

}  // namespace

// ISLOW transform and fancy up-sampling, which are libjpeg's defaults and Pillow's choice.
Image decode_jpeg(const Encoded& file) {
    Reader reader{};
    open(reader, file.bytes);
    const Cleanup cleanup{reader};
    if (!read_header(reader)) file.fail(reader.message);

    jpeg_decompress_struct& info = reader.info;
    file.check_size(info.image_width, info.image_height);
    const int components = info.num_components;
    if (components != 1 && components != 3 && components != 4)
        file.unsupported(fmt::format("{} colour components", components));
    Image image = file.canvas(info.image_width, info.image_height);
    const size_t pixels = size_t(image.width) * size_t(image.height);

    if (components == 3 || components == 1) {
        info.out_color_space = components == 3 ? JCS_RGB : JCS_GRAYSCALE;
        const size_t width = size_t(image.width) * size_t(components);
        // Gray rows go to the end of the buffer, so that spreading them forwards overtakes none.
        uint8_t* rows = image.rgb.data() + (image.rgb.size() - pixels * size_t(components));
        if (!read_rows(reader, rows, width)) file.fail(reader.message);
        if (components == 1)
            for (size_t i = 0; i < pixels; ++i) {
                const uint8_t gray = rows[i];
                for (size_t c = 0; c < 3; ++c) image.rgb[3 * i + c] = gray;
            }
        return image;
    }
    // Four inks, stored inverted as Adobe does; Pillow assumes that of every such file.
    info.out_color_space = JCS_CMYK;
    std::vector<uint8_t> inks(pixels * 4);
    if (!read_rows(reader, inks.data(), size_t(image.width) * 4)) file.fail(reader.message);
    for (size_t i = 0; i < pixels; ++i) {
        const uint8_t* ink = &inks[4 * i];
        cmyk_to_rgb(255 - ink[0], 255 - ink[1], 255 - ink[2], 255 - ink[3], &image.rgb[3 * i]);
    }
    return image;
}

}  // namespace internvl
