#include "media/decode.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <memory>
#include <string_view>

#include "media/codecs.h"
#include "media/media_fault.h"

namespace internvl {

using Kind = MediaFault::Kind;

void Encoded::fail(const std::string& reason) const {
    throw MediaFault(Kind::damaged, fmt::format("cannot decode this {} image", format),
                     "a complete, valid file", reason, where);
}

void Encoded::unsupported(const std::string& feature) const {
    throw MediaFault(Kind::unsupported,
                     fmt::format("this kind of {} image is not supported", format), std::string(),
                     feature, where);
}

void Encoded::check_size(int64_t width, int64_t height) const {
    if (width <= 0 || height <= 0)
        fail(fmt::format("a size of {}x{} pixels in the header", width, height));
    const int64_t side = limits.max_side;
    if (width > side || height > side || width > limits.max_pixels / height)
        throw MediaFault(Kind::too_large, "the image is too large",
                         fmt::format("at most {} pixels and {} a side", limits.max_pixels, side),
                         fmt::format("{}x{} in the header", width, height), where);
}

Image Encoded::canvas(int64_t width, int64_t height) const {
    check_size(width, height);
    return {int(width), int(height), std::vector<uint8_t>(size_t(width) * size_t(height) * 3)};
}

std::span<const uint8_t> ByteReader::range(size_t at, size_t count) const {
    if (at > source.bytes.size() || count > source.bytes.size() - at)
        source.fail(fmt::format("an end after {} bytes, inside the data", source.bytes.size()));
    return source.bytes.subspan(at, count);
}

uint8_t ByteReader::u8(size_t at) const {
    return range(at, 1)[0];
}

uint16_t ByteReader::u16(size_t at) const {
    const auto b = range(at, 2);
    return uint16_t(big_endian ? b[0] << 8 | b[1] : b[1] << 8 | b[0]);
}

uint32_t ByteReader::u32(size_t at) const {
    const uint32_t first = u16(at), second = u16(at + 2);
    return big_endian ? first << 16 | second : second << 16 | first;
}

namespace {

using namespace std::string_view_literals;

struct Format {
    std::string_view magic;
    size_t at;  // where the magic stands
    const char* name;
    Image (*decode)(const Encoded&);              // null: recognised only to name it in the error
    ImageSize (*size)(const Encoded&) = nullptr;  // null: not taken from strangers
};

constexpr Format formats[] = {
    {"\xFF\xD8\xFF"sv, 0, "JPEG", decode_jpeg, jpeg_size},
    {"\x89PNG\r\n\x1A\n"sv, 0, "PNG", decode_png, png_size},
    {"WEBP"sv, 8, "WebP", decode_webp, webp_size},
    {"GIF87a"sv, 0, "GIF", decode_gif, gif_size},
    {"GIF89a"sv, 0, "GIF", decode_gif, gif_size},
    {"BM"sv, 0, "BMP", decode_bmp, bmp_size},
    {"II*\0"sv, 0, "TIFF", decode_tiff},
    {"MM\0*"sv, 0, "TIFF", decode_tiff},
    {"II+\0"sv, 0, "TIFF", decode_tiff},
    {"MM\0+"sv, 0, "TIFF", decode_tiff},
    {"\0\0\1\0"sv, 0, "ICO", decode_ico},
    {"ftypavif"sv, 4, "AVIF", nullptr},
    {"ftypavis"sv, 4, "AVIF", nullptr},
    {"ftyphei"sv, 4, "HEIC", nullptr},
    {"ftypmif1"sv, 4, "HEIF", nullptr},
    {"ftyp"sv, 4, "MP4 video", nullptr},
    {"\0\0\0\x0CjP  "sv, 0, "JPEG 2000", nullptr},
    {"\xFF\x4F\xFF\x51"sv, 0, "JPEG 2000", nullptr},
    {"\xFF\x0A"sv, 0, "JPEG XL", nullptr},
    {"\0\0\0\x0CJXL "sv, 0, "JPEG XL", nullptr},
    {"8BPS"sv, 0, "Photoshop", nullptr},
    {"%PDF"sv, 0, "PDF", nullptr},
    {"<svg"sv, 0, "SVG", nullptr},
    {"\x76\x2F\x31\x01"sv, 0, "OpenEXR", nullptr},
    {"<?xml"sv, 0, "XML", nullptr},
    {"<!"sv, 0, "HTML", nullptr},
    {"<html"sv, 0, "HTML", nullptr},
    {"\x1A\x45\xDF\xA3"sv, 0, "Matroska video", nullptr},
};

constexpr Format pnm{"P"sv, 0, "PNM", decode_pnm};

const Format* recognise(std::string_view text) {
    for (const Format& format : formats)
        if (text.size() > format.at && text.substr(format.at).starts_with(format.magic))
            return &format;
    const bool is_pnm = text.size() > 2 && text[0] == 'P' &&
                        "123456f"sv.find(text[1]) != std::string_view::npos &&
                        " \t\n\v\f\r"sv.find(text[2]) != std::string_view::npos;
    return is_pnm ? &pnm : nullptr;
}

constexpr const char* readable = "JPEG, PNG, WebP, GIF, BMP, TIFF, PNM or ICO";
constexpr const char* readable_of_strangers = "JPEG, PNG, WebP, GIF or uncompressed BMP";

std::string first_bytes(std::span<const uint8_t> bytes) {
    std::string text = "a file that begins with";
    for (uint8_t byte : bytes.first(std::min<size_t>(bytes.size(), 8)))
        text += fmt::format(" {:02x}", byte);
    return text;
}

// The kind of the file, or a MediaFault that names what is readable. A stranger may have named a
// file that only we can read, and is not told what is in it.
const Format& format_of(std::span<const uint8_t> bytes, const ImageLimits& limits,
                        const std::string& where, bool is_strangers) {
    const char* expected = is_strangers ? readable_of_strangers : readable;
    if (bytes.empty())
        throw MediaFault(Kind::unsupported, "the image is empty", expected, "0 bytes", where);
    if (int64_t(bytes.size()) > limits.max_bytes)
        throw MediaFault(Kind::too_large, "the image file is too large",
                         fmt::format("at most {} bytes", limits.max_bytes),
                         fmt::format("{} bytes", bytes.size()), where);
    const Format* format = recognise({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
    if (format) return *format;
    throw MediaFault(Kind::unsupported, "this is no image that can be read", expected,
                     is_strangers ? "another kind of file" : first_bytes(bytes), where);
}

[[noreturn]] void refuse(const Format& format, const std::string& where, const char* expected) {
    throw MediaFault(Kind::unsupported, "this image format is not supported", expected, format.name,
                     where);
}

}  // namespace

Image decode_image(std::span<const uint8_t> bytes, const ImageLimits& limits,
                   const std::string& where) {
    const Format& format = format_of(bytes, limits, where, false);
    if (!format.decode) refuse(format, where, readable);
    return format.decode({bytes, limits, where, format.name});
}

ImageHeader read_image_header(std::span<const uint8_t> bytes, const ImageLimits& limits,
                              const std::string& where) {
    const Format& format = format_of(bytes, limits, where, true);
    if (!format.size) refuse(format, where, readable_of_strangers);
    const Encoded file{bytes, limits, where, format.name};
    const auto [width, height] = format.size(file);
    file.check_size(width, height);
    return {format.name, int(width), int(height)};
}

Image load_image(const std::string& path, const ImageLimits& limits) {
    const std::unique_ptr<FILE, int (*)(FILE*)> file(std::fopen(path.c_str(), "rb"), std::fclose);
    if (!file) throw Error("cannot open the image file", {}, std::strerror(errno), path);
    std::vector<uint8_t> bytes;
    size_t got = 0;
    do {
        bytes.resize(bytes.size() + std::max<size_t>(bytes.size(), 1 << 16));
        got += std::fread(bytes.data() + got, 1, bytes.size() - got, file.get());
    } while (got == bytes.size() && int64_t(got) <= limits.max_bytes);
    if (std::ferror(file.get()))
        throw Error("cannot read the image file", {}, std::strerror(errno), path);
    return decode_image(std::span(bytes).first(got), limits, path);
}

}  // namespace internvl
