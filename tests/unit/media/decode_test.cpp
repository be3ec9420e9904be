#include "media/decode.h"

#include <algorithm>
#include <numeric>

#include "media/write_png.h"
#include "support.h"

namespace internvl {
namespace {

using Bytes = std::vector<uint8_t>;

std::string refusal(const Bytes& bytes, const ImageLimits& limits = {}) {
    return error_of([&] { decode_image(bytes, limits, "test"); });
}

bool has(const std::string& text, const std::string& part) {
    return text.find(part) != std::string::npos;
}

void append(Bytes& to, std::initializer_list<int> bytes) {
    for (int byte : bytes) to.push_back(uint8_t(byte));
}

void append_u32(Bytes& to, uint32_t value, bool big_endian) {
    for (int i = 0; i < 4; ++i) to.push_back(uint8_t(value >> 8 * (big_endian ? 3 - i : i)));
}

// A PNG header that claims a size, and nothing after it.
Bytes png_header(uint32_t width, uint32_t height) {
    Bytes chunk = {'I', 'H', 'D', 'R'};
    append_u32(chunk, width, true);
    append_u32(chunk, height, true);
    append(chunk, {8, 2, 0, 0, 0});
    Bytes file = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n', 0, 0, 0, 13};
    file.insert(file.end(), chunk.begin(), chunk.end());
    append_u32(file, crc32_of(chunk), true);
    append(file, {0, 0, 0, 0, 'I', 'D', 'A', 'T', 0x35, 0xAF, 0x06, 0x1E});
    return file;
}

Bytes bmp_header(uint32_t width, uint32_t height, int bits) {
    Bytes file = {'B', 'M', 0, 0, 0, 0, 0, 0, 0, 0, 54, 0, 0, 0, 40, 0, 0, 0};
    append_u32(file, width, false);
    append_u32(file, height, false);
    append(file, {1, 0, bits, 0});
    file.resize(54);
    return file;
}

TEST(Decode, SaysWhatItCannotRead) {
    EXPECT_TRUE(has(refusal({}), "0 bytes"));
    EXPECT_TRUE(has(refusal({'P', 0, ' ', '1', ' ', '1', ' '}), "50 00 20"));
    EXPECT_TRUE(has(refusal({'h', 'e', 'l', 'l', 'o'}), "68 65 6c 6c 6f"));
    EXPECT_TRUE(has(refusal({'%', 'P', 'D', 'F', '-'}), "found PDF (test)"));
    EXPECT_TRUE(has(refusal({0, 0, 0, 28, 'f', 't', 'y', 'p', 'a', 'v', 'i', 'f'}), "AVIF"));
    EXPECT_TRUE(has(error_of([] { load_image("/no/such/file.png"); }), "/no/such/file.png"));
    EXPECT_FALSE(error_of([] { load_image("/"); }).empty());
}

TEST(Decode, ChecksTheSizeBeforeAnythingElse) {
    const std::string bomb = refusal(png_header(60000, 60000));
    EXPECT_TRUE(has(bomb, "the image is too large")) << bomb;
    EXPECT_TRUE(has(bomb, "found 60000x60000")) << bomb;
    EXPECT_TRUE(has(refusal(bmp_header(60000, 60000, 24)), "too large"));
    EXPECT_TRUE(has(refusal(bmp_header(0xFFFF0000, 1, 24)), "too large"));
    EXPECT_TRUE(has(refusal({'G', 'I', 'F', '8', '9', 'a', 255, 255, 255, 255, 0, 0,
                             0,   ',', 0,   0,   0,   0,   255, 255, 255, 255, 0, 8}),
                    "too large"));
    const std::string pnm = "P6 2000000000 2000000000 255 ";
    EXPECT_TRUE(has(refusal({pnm.begin(), pnm.end()}), "too large"));
    EXPECT_TRUE(has(refusal(png_header(13000, 13000)), "far fewer bytes"));
    EXPECT_TRUE(has(refusal(png_header(0, 5)), "IHDR"));
}

TEST(Decode, OwnLimits) {
    const Bytes picture = read_bytes(golden_folder + "gray.png");
    EXPECT_TRUE(refusal(picture).empty());
    EXPECT_TRUE(has(refusal(picture, {.max_pixels = 100}), "at most 100 pixels"));
    EXPECT_TRUE(has(refusal(picture, {.max_side = 16}), "16 a side"));
    EXPECT_TRUE(has(refusal(picture, {.max_bytes = 1000}), "at most 1000 bytes"));
    EXPECT_TRUE(has(error_of([] { load_image(golden_folder + "gray.png", {.max_bytes = 1000}); }),
                    "at most 1000 bytes"));
}

// Pixels of a broken file must not reach the model as if they were the picture.
TEST(Decode, EveryTruncationIsRefused) {
    for (const char* name : {"baseline_420.jpg", "progressive_420.jpg", "cmyk.jpg", "rgb_1tile.png",
                             "gray16.png", "lossless_alpha.webp", "lossy.webp"}) {
        const Bytes whole = read_bytes(golden_folder + name);
        for (size_t tenths = 1; tenths < 10; ++tenths) {
            const Bytes part(whole.begin(), whole.begin() + int64_t(whole.size() * tenths / 10));
            EXPECT_FALSE(refusal(part).empty()) << name << " at " << tenths << " tenths";
        }
    }
}

TEST(Decode, JpegWithoutItsEndMarkIsRefused) {
    Bytes picture = read_bytes(golden_folder + "baseline_444.jpg");
    picture.resize(picture.size() - 2);
    EXPECT_TRUE(has(refusal(picture), "end of the file inside the picture"));
}

TEST(Decode, DamageNeverCrashes) {
    const Bytes whole = read_bytes(golden_folder + "animated.gif");
    for (size_t at = 0; at < whole.size(); at += 7) {
        Bytes damaged = whole;
        damaged[at] ^= 0x55;
        refusal(damaged, {.max_pixels = 1 << 20});
    }
}

TEST(Decode, BitmapsRoundTrip) {
    Bytes file = bmp_header(3, 2, 24);
    append(file, {1, 2, 3, 4, 5, 6, 7, 8, 9, 0, 0, 0});           // the bottom row, as BGR
    append(file, {11, 12, 13, 14, 15, 16, 17, 18, 19, 0, 0, 0});  // the top row
    const Image image = decode_image(file, {}, "test");
    EXPECT_EQ(image.width, 3);
    EXPECT_EQ(image.height, 2);
    EXPECT_EQ(image.rgb, (Bytes{13, 12, 11, 16, 15, 14, 19, 18, 17, 3, 2, 1, 6, 5, 4, 9, 8, 7}));
    file.pop_back();
    EXPECT_EQ(decode_image(file, {}, "test").rgb, image.rgb);  // padding may be missing
    file.resize(file.size() - 3);
    EXPECT_TRUE(has(refusal(file), "inside the data"));
}

TEST(Decode, PortableMaps) {
    const auto decode = [](const std::string& text) {
        return decode_image(Bytes(text.begin(), text.end()), {}, "test").rgb;
    };
    EXPECT_EQ(decode("P3 # colours\n1 2 255\n1 2 3 4 5 6"), (Bytes{1, 2, 3, 4, 5, 6}));
    EXPECT_EQ(decode("P2 2 1 15 15 1"), (Bytes{255, 255, 255, 17, 17, 17}));
    EXPECT_EQ(decode("P1 2 1 10"), (Bytes{0, 0, 0, 255, 255, 255}));
    EXPECT_EQ(decode(std::string("P4 1 1\n\x80", 8)), (Bytes{0, 0, 0}));
    EXPECT_EQ(decode(std::string("P5 1 1 65535\n\x00\x07", 15)), (Bytes{7, 7, 7}));
    EXPECT_EQ(decode(std::string("P5 1 1 65535\n\x01\x07", 15)), (Bytes{255, 255, 255}));
    EXPECT_EQ(decode("P6 1 1 255\nabc"), (Bytes{'a', 'b', 'c'}));
    EXPECT_EQ(decode(std::string("Pf 1 1 -1\n\x00\x00\x80\x40", 14)), (Bytes{4, 4, 4}));
    EXPECT_THROW(decode("P6 1 1 255\nab"), Error);
    EXPECT_THROW(decode("P2 1 1 255 256"), Error);
    EXPECT_THROW(decode("P2 1 1 0 0"), Error);
    EXPECT_THROW(decode("P2 1"), Error);
}

TEST(WritePng, IsReadBackUnchanged) {
    const Image image = synthetic_image(37, 23);
    const std::string path = testing::TempDir() + "/written.png";
    write_png(image, path);
    const Image back = load_image(path);
    EXPECT_EQ(back.width, 37);
    EXPECT_EQ(back.height, 23);
    EXPECT_EQ(back.rgb, image.rgb);
    EXPECT_TRUE(has(error_of([&] { write_png(image, "/no/such/folder/x.png"); }), "/no/such"));
}

TEST(Exif, OrientationOfTheGoldenPicture) {
    EXPECT_EQ(exif_orientation(read_bytes(golden_folder + "exif_rotated.jpg")), 6);
    EXPECT_EQ(exif_orientation(read_bytes(golden_folder + "baseline_420.jpg")), 1);
    EXPECT_EQ(exif_orientation(read_bytes(golden_folder + "gray.png")), 1);
    EXPECT_EQ(exif_orientation({}), 1);
    const Bytes loop = {0xFF, 0xD8, 0xFF, 0xE1, 0xFF, 0xFF, 'E', 'x', 'i', 'f', 0, 0, 'M', 'M'};
    EXPECT_EQ(exif_orientation(loop), 1);
}

TEST(Exif, TurnsAndMirrors) {
    // A 3 x 2 picture whose pixels count from 0:  0 1 2 / 3 4 5
    Image image{3, 2, Bytes(18)};
    for (size_t i = 0; i < 18; ++i) image.rgb[i] = uint8_t(i / 3);
    const std::vector<int> expected[] = {{0, 1, 2, 3, 4, 5}, {2, 1, 0, 5, 4, 3}, {5, 4, 3, 2, 1, 0},
                                         {3, 4, 5, 0, 1, 2}, {0, 3, 1, 4, 2, 5}, {3, 0, 4, 1, 5, 2},
                                         {5, 2, 4, 1, 3, 0}, {2, 5, 1, 4, 0, 3}};
    for (int orientation = 1; orientation <= 8; ++orientation) {
        const Image turned = oriented(image, orientation);
        EXPECT_EQ(turned.width, orientation < 5 ? 3 : 2);
        EXPECT_EQ(turned.height, orientation < 5 ? 2 : 3);
        std::vector<int> pixels;
        for (size_t i = 0; i < 18; i += 3) pixels.push_back(turned.rgb[i]);
        EXPECT_EQ(pixels, expected[orientation - 1]) << orientation;
    }
    EXPECT_EQ(oriented(image, 9).rgb, image.rgb);
}

}  // namespace
}  // namespace internvl
