#include "media/write_png.h"

#include <png.h>

#include "base/error.h"

namespace internvl {

static png_image describe(const Image& image) {
    png_image out{};
    out.version = PNG_IMAGE_VERSION;
    out.width = png_uint_32(image.width);
    out.height = png_uint_32(image.height);
    out.format = PNG_FORMAT_RGB;
    return out;
}

void write_png(const Image& image, const std::string& path) {
    png_image out = describe(image);
    if (!png_image_write_to_file(&out, path.c_str(), 0, image.rgb.data(), 0, nullptr))
        throw Error("cannot write picture", "", out.message, path);
}

std::string encode_png(const Image& image) {
    png_image out = describe(image);
    png_alloc_size_t size = 0;
    std::string bytes;
    bool done = png_image_write_to_memory(&out, nullptr, &size, 0, image.rgb.data(), 0, nullptr);
    if (done) {
        bytes.resize(size);
        done =
            png_image_write_to_memory(&out, bytes.data(), &size, 0, image.rgb.data(), 0, nullptr);
        bytes.resize(size);
    }
    if (!done) throw Error("cannot encode picture", "", out.message);
    return bytes;
}

}  // namespace internvl
