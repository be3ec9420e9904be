#pragma once
#include <cstdint>
#include <span>
#include <string>

#include "media/image.h"

namespace internvl {

// Decodes JPEG, PNG, WebP, GIF, BMP, TIFF, PNM or ICO, told apart by content, to what Pillow's
// `Image.open(file).convert("RGB")` gives (spec 1.1): the first frame, alpha dropped, no colour
// management, EXIF orientation ignored. `where` names the source in errors. Throws MediaFault for a
// format it does not read, a picture beyond the limits, and a broken or truncated file.
Image decode_image(std::span<const uint8_t> bytes, const ImageLimits& limits,
                   const std::string& where);

// What the beginning of a picture says of it.
struct ImageHeader {
    const char* format;  // "JPEG"
    int width, height;   // as decode_image will give it
};

// The header of a picture by a stranger: fewer formats than decode_image reads (JPEG, PNG, WebP,
// GIF, BMP without compression), the size within the limits. Decodes and allocates nothing. Throws
// MediaFault.
ImageHeader read_image_header(std::span<const uint8_t> bytes, const ImageLimits& limits,
                              const std::string& where);

// decode_image of a file. Throws Error too when the file cannot be read.
Image load_image(const std::string& path, const ImageLimits& limits = {});

// The orientation, 1 to 8, that the EXIF block of a JPEG, PNG or WebP file asks for; 1 when there
// is none or it is unreadable. The reference ignores it, so applying it is the caller's choice.
int exif_orientation(std::span<const uint8_t> bytes);

// The image as a viewer that honours EXIF `orientation` (1 to 8, others count as 1) shows it.
Image oriented(Image image, int orientation);

}  // namespace internvl
