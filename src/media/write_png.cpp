#include "media/write_png.h"

#include <png.h>

#include "base/error.h"

namespace internvl {

void write_png(const Image& image, const std::string& path) {
    png_image out{};
    out.version = PNG_IMAGE_VERSION;
    out.width = png_uint_32(image.width);
    out.height = png_uint_32(image.height);
    out.format = PNG_FORMAT_RGB;
    if (!png_image_write_to_file(&out, path.c_str(), 0, image.rgb.data(), 0, nullptr))
        throw Error("cannot write picture", "", out.message, path);
}

}  // namespace internvl
