#pragma once
#include <string>

#include "media/image.h"

namespace internvl {

// Writes an 8-bit RGB PNG. Throws Error when the file cannot be written.
void write_png(const Image& image, const std::string& path);
// The bytes of such a file.
std::string encode_png(const Image& image);

}  // namespace internvl
