#include <algorithm>
#include <optional>
#include <string_view>
#include <utility>

#include "media/codecs.h"
#include "media/decode.h"

namespace internvl {
namespace {

using namespace std::string_view_literals;

// Numbers of an untrusted block; 0 past its end.
struct Block {
    std::string_view bytes;
    bool big_endian = true;

    uint32_t number(size_t at, size_t size) const {
        if (at > bytes.size() || size > bytes.size() - at) return 0;
        uint32_t value = 0;
        for (size_t i = 0; i < size; ++i)
            value = value << 8 | uint8_t(bytes[big_endian ? at + i : at + size - 1 - i]);
        return value;
    }
    std::string_view part(size_t at, size_t size) const {
        return at > bytes.size() ? std::string_view() : bytes.substr(at, size);
    }
};

// The TIFF structure inside each format's EXIF container; empty when there is none.
std::string_view find_in_jpeg(const Block& file) {
    for (size_t at = 2; file.number(at, 1) == 0xFF;) {
        const uint32_t marker = file.number(at + 1, 1), size = file.number(at + 2, 2);
        if (marker == 0xFF) {  // fill byte
            ++at;
            continue;
        }
        if (marker == 0xDA || size < 2) break;
        const std::string_view segment = file.part(at + 4, size - 2);
        if (marker == 0xE1 && segment.starts_with("Exif\0\0"sv)) return segment.substr(6);
        at += 2 + size;
    }
    return {};
}

std::string_view find_in_png(const Block& file) {
    for (size_t at = 8; at + 8 <= file.bytes.size();) {
        const uint32_t size = file.number(at, 4);
        const std::string_view name = file.part(at + 4, 4);
        if (name == "eXIf") return file.part(at + 8, size);
        if (name == "IEND") break;
        at += 12 + size_t(size);
    }
    return {};
}

std::string_view find_in_webp(Block file) {
    file.big_endian = false;
    for (size_t at = 12; at + 8 <= file.bytes.size();) {
        const uint32_t size = file.number(at + 4, 4);
        if (file.part(at, 4) == "EXIF") {
            const std::string_view data = file.part(at + 8, size);
            return data.starts_with("Exif\0\0"sv) ? data.substr(6) : data;
        }
        at += 8 + size_t(size) + size % 2;
    }
    return {};
}

}  // namespace

int exif_orientation(std::span<const uint8_t> bytes) {
    const Block file{{reinterpret_cast<const char*>(bytes.data()), bytes.size()}};
    const std::string_view text = file.bytes;
    Block exif;
    if (text.starts_with("\xFF\xD8"sv)) exif.bytes = find_in_jpeg(file);
    if (text.starts_with("\x89PNG"sv)) exif.bytes = find_in_png(file);
    if (file.part(8, 4) == "WEBP") exif.bytes = find_in_webp(file);

    exif.big_endian = exif.bytes.starts_with("MM");
    const size_t directory = exif.number(4, 4);
    const uint32_t entries = exif.number(directory, 2);
    constexpr uint32_t orientation_tag = 0x112;
    for (uint32_t i = 0; i < entries; ++i) {
        const size_t at = directory + 2 + size_t(i) * 12;
        if (at + 12 > exif.bytes.size()) break;
        if (exif.number(at, 2) != orientation_tag) continue;
        const uint32_t value = exif.number(at + 8, 2);  // a short
        return value >= 1 && value <= 8 ? int(value) : 1;
    }
    return 1;
}

Image oriented(Image image, int orientation) {
    if (orientation < 2 || orientation > 8) return image;
    // Orientations as flips after an optional swap of the axes.
    const bool swap = orientation >= 5;
    const bool mirror_x =
        orientation == 2 || orientation == 3 || orientation == 6 || orientation == 7;
    const bool mirror_y =
        orientation == 3 || orientation == 4 || orientation == 7 || orientation == 8;
    Image out{swap ? image.height : image.width, swap ? image.width : image.height, {}};
    out.rgb.resize(image.rgb.size());
    const size_t width = size_t(out.width), height = size_t(out.height);
    for (size_t y = 0; y < height; ++y)
        for (size_t x = 0; x < width; ++x) {
            const size_t from_x = mirror_x ? width - 1 - x : x;
            const size_t from_y = mirror_y ? height - 1 - y : y;
            const size_t from = swap ? from_x * size_t(image.width) + from_y
                                     : from_y * size_t(image.width) + from_x;
            std::copy_n(&image.rgb[3 * from], 3, &out.rgb[3 * (y * width + x)]);
        }
    return out;
}

}  // namespace internvl
