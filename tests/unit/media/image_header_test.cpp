// Headers of strangers' pictures: the size as the decoder finds it, or a refusal, and no memory.
#include <random>

#include "media/decode.h"
#include "media/media_fault.h"
#include "support.h"

namespace internvl {
namespace {

using Kind = MediaFault::Kind;
const ImageLimits limits{.max_pixels = 100'000'000, .max_side = 32'768, .max_bytes = 20 << 20};

std::string big_endian(uint32_t value) {
    return {char(value >> 24), char(value >> 16), char(value >> 8), char(value)};
}

std::vector<uint8_t> bytes_of(const std::string& text) {
    return {text.begin(), text.end()};
}

std::vector<uint8_t> png_header(uint32_t width, uint32_t height, int depth = 8, int colour = 2) {
    const std::string chunk = "IHDR" + big_endian(width) + big_endian(height) + char(depth) +
                              char(colour) + std::string(3, '\0');
    const auto raw = bytes_of(chunk);
    return bytes_of("\x89PNG\r\n\x1A\n" + big_endian(13) + chunk + big_endian(crc32_of(raw)));
}

// 0: no fault.
int fault_of(const std::vector<uint8_t>& bytes) {
    try {
        read_image_header(bytes, limits, "picture");
        return 0;
    } catch (const MediaFault& fault) {
        return 1 + int(fault.kind);
    }
}
constexpr int unsupported = 1 + int(Kind::unsupported), damaged = 1 + int(Kind::damaged),
              too_large = 1 + int(Kind::too_large);

TEST(ImageHeader, AgreesWithTheDecoder) {
    const auto expected = read_json(golden_folder + "expected.json").at("images");
    for (const auto& [name, picture] : expected.items()) {
        const auto bytes = read_bytes(golden_folder + name);
        const ImageHeader header = read_image_header(bytes, limits, name);
        EXPECT_EQ(nlohmann::json({header.width, header.height}), picture.at("size")) << name;
    }
}

TEST(ImageHeader, AgreesWithTheDecoderOnOthersFiles) {
    if (!std::filesystem::exists(shared_folder)) GTEST_SKIP() << shared_folder << " is not here";
    for (const auto& entry : std::filesystem::recursive_directory_iterator(
             shared_folder, std::filesystem::directory_options::skip_permission_denied)) {
        const std::string extension = entry.path().extension().string();
        if (extension != ".png" && extension != ".jpg" && extension != ".webp" &&
            extension != ".gif" && extension != ".bmp")
            continue;
        const auto bytes = read_bytes(entry.path().string());
        Image image;
        if (!error_of([&] { image = decode_image(bytes, limits, "shared"); }).empty()) continue;
        if (fault_of(bytes) == unsupported) continue;  // such as run lengths
        const ImageHeader header = read_image_header(bytes, limits, "shared");
        EXPECT_EQ(std::pair(header.width, header.height), std::pair(image.width, image.height))
            << entry.path();
    }
}

TEST(ImageHeader, SizesWithinTheLimits) {
    EXPECT_EQ(fault_of(png_header(1, 1)), 0);
    EXPECT_EQ(fault_of(png_header(1, 32'768)), 0);
    EXPECT_EQ(fault_of(png_header(32'769, 1)), too_large);
    EXPECT_EQ(fault_of(png_header(10'000, 10'000)), 0);
    EXPECT_EQ(fault_of(png_header(10'001, 10'000)), too_large);
    EXPECT_EQ(fault_of(png_header(65'535, 65'535)), too_large);
    EXPECT_EQ(fault_of(png_header(30'000, 30'000)), too_large);
    EXPECT_EQ(fault_of(png_header(0x7FFFFFFF, 0x7FFFFFFF)), too_large);
    EXPECT_EQ(fault_of(png_header(0xFFFFFFFF, 0xFFFFFFFF)), too_large);
    EXPECT_EQ(fault_of(png_header(0, 5)), damaged);
    EXPECT_EQ(fault_of(png_header(5, 0)), damaged);
    for (const auto& [depth, colour] : std::vector<std::pair<int, int>>{
             {3, 0}, {32, 2}, {4, 2}, {16, 3}, {8, 1}, {8, 5}, {8, 7}, {1, 6}, {0, 0}})
        EXPECT_EQ(fault_of(png_header(5, 5, depth, colour)), damaged) << depth << ' ' << colour;
}

TEST(ImageHeader, FormatsRefusedByName) {
    const std::pair<std::string, const char*> files[] = {
        {"<svg xmlns=\"http://www.w3.org/2000/svg\"/>", "SVG"},
        {"<?xml version=\"1.0\"?><!DOCTYPE svg [<!ENTITY x SYSTEM \"file:///etc/passwd\">]><svg/>",
         "XML"},
        {"<!DOCTYPE html><html></html>", "HTML"},
        {"<html></html>", "HTML"},
        {std::string("II*\0\x08\0\0\0", 8), "TIFF"},
        {std::string("MM\0*\0\0\0\x08", 8), "TIFF"},
        {std::string("\0\0\0\x18"
                     "ftypheic\0\0\0\0",
                     16),
         "HEIC"},
        {std::string("\0\0\0\x18"
                     "ftypavif\0\0\0\0",
                     16),
         "AVIF"},
        {std::string("\0\0\0\x0CjP  \r\n\x87\n", 12), "JPEG 2000"},
        {"\xFF\x4F\xFF\x51\x01", "JPEG 2000"},
        {"\xFF\x0A\x01", "JPEG XL"},
        {std::string("\0\0\0\x0CJXL \r\n\x87\n", 12), "JPEG XL"},
        {std::string("8BPS\0\x01", 6), "Photoshop"},
        {"%PDF-1.7\n\xFF\xD8\xFF\xE0", "PDF"},
        {std::string("\0\0\x01\0\x01\0", 6), "ICO"},
        {std::string("\x76\x2F\x31\x01\x02\0\0\0", 8), "OpenEXR"},
        {"P6\n1 1\n255\nabc", "PNM"},
        {std::string("\0\0\0\x18"
                     "ftypisom\0\0\0\0",
                     16),
         "MP4 video"},
    };
    for (const auto& [file, name] : files) {
        EXPECT_EQ(fault_of(bytes_of(file)), unsupported) << name;
        const std::string message =
            error_of([&, &file = file] { read_image_header(bytes_of(file), limits, "picture"); });
        EXPECT_NE(message.find(std::string("found ") + name), std::string::npos) << message;
    }
    for (const std::string file : {"", "x", "\xFF", "  <svg/>", "GIF88a", "hello, world"})
        EXPECT_EQ(fault_of(bytes_of(file)), unsupported) << file;
}

std::string bmp(uint32_t compression) {
    std::string file = "BM" + std::string(12, '\0') + std::string("\x28\0\0\0", 4);
    for (const uint32_t value : {7u, 5u, 1u | 8u << 16, compression})
        file += {char(value), char(value >> 8), char(value >> 16), char(value >> 24)};
    return file + std::string(20, '\0');
}

TEST(ImageHeader, RunLengthsAreNotForStrangers) {
    EXPECT_EQ(fault_of(bytes_of(bmp(0))), 0);
    EXPECT_EQ(fault_of(bytes_of(bmp(1))), unsupported);
    EXPECT_EQ(fault_of(bytes_of(bmp(2))), unsupported);
}

// Cut or changed anywhere, a header is read or refused; what the decoder then makes of the file has
// the size that the header told, or is refused as well.
TEST(ImageHeader, CutShortAndChanged) {
    std::mt19937 random(20240705);
    const auto expected = read_json(golden_folder + "expected.json").at("images");
    int read = 0, refused = 0;
    const auto check = [&](const std::vector<uint8_t>& bytes) {
        ImageHeader header{};
        try {
            header = read_image_header(bytes, limits, "damaged");
        } catch (const MediaFault&) {
            ++refused;
            return;
        }
        ++read;
        if (int64_t(header.width) * header.height > 1'000'000) return;
        try {
            const Image image = decode_image(bytes, limits, "damaged");
            EXPECT_EQ(image.rgb.size(), size_t(header.width) * size_t(header.height) * 3);
        } catch (const MediaFault&) {
        }
    };
    for (const auto& [name, picture] : expected.items()) {
        const auto whole = read_bytes(golden_folder + name);
        for (size_t size = 0; size < std::min<size_t>(whole.size(), 1000); size += 7)
            check({whole.begin(), whole.begin() + ptrdiff_t(size)});
        for (int i = 0; i < 40; ++i) {
            auto bytes = whole;
            for (int change = 0; change < 3; ++change)
                bytes[random() % std::min<size_t>(bytes.size(), 600)] = uint8_t(random());
            if (bytes.size() < 40'000) check(bytes);
        }
    }
    EXPECT_GE(read, 300);
    EXPECT_GE(refused, 300);
}

}  // namespace
}  // namespace internvl
