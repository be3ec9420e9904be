#include "media/resize.h"

#include <cstdlib>
#include <numeric>

#include "base/cpu.h"
#include "support.h"

namespace internvl {
namespace {

struct Vector {
    int width, height, to_width, to_height;
    uint32_t crc;
    int64_t sum;
};

// Spec, Appendix A.1: made by Pillow 9.4, where the order of the passes was fixed.
const Vector vectors[] = {
    {5, 3, 4, 4, 0x30bff782, 2784},
    {4, 4, 5, 3, 0x9ff20e70, 2763},
    {7, 5, 448, 448, 0x2ce05470, 49376882},
    {100, 75, 896, 448, 0x9441cfbb, 153916752},
    {1000, 667, 1344, 896, 0x578c7006, 460660514},
    {640, 480, 1792, 1344, 0xb8a8941b, 921428554},
    {3000, 200, 5376, 448, 0x78306652, 921179568},
    {448, 1000, 448, 896, 0x7c6e3254, 153538093},
    {1, 1, 448, 448, 0xd3acb7b4, 17461248},
    {3, 999, 448, 5376, 0x028373a7, 922422889},
    {1920, 1080, 448, 448, 0x9a172b82, 76769246},
    {33, 17, 33, 448, 0x509cbdc9, 5562833},
};

void check_vectors(ThreadPool* pool) {
    for (const Vector& v : vectors) {
        SCOPED_TRACE(testing::Message()
                     << v.width << "x" << v.height << " to " << v.to_width << "x" << v.to_height);
        const Image out = resize_bicubic(synthetic_image(v.width, v.height), v.to_width,
                                         v.to_height, pool, PassOrder::horizontal_first);
        EXPECT_EQ(out.width, v.to_width);
        EXPECT_EQ(out.height, v.to_height);
        EXPECT_EQ(crc32_of(out.rgb), v.crc);
        EXPECT_EQ(std::accumulate(out.rgb.begin(), out.rgb.end(), int64_t(0)), v.sum);
    }
}

TEST(Resize, EqualsPillow) {
    check_vectors(nullptr);
}

TEST(Resize, ThreadsGiveTheSameBits) {
    ThreadPool pool(3);
    check_vectors(&pool);
}

TEST(Resize, EveryInstructionSetGivesTheSameBits) {
    const Isa best = selected_isa();
    for (int isa = 0; isa <= int(best); ++isa) {
        SCOPED_TRACE(isa_name(Isa(isa)));
        ASSERT_EQ(setenv("INTERNVL_CPU", isa_name(Isa(isa)), 1), 0);
        check_vectors(nullptr);
    }
    unsetenv("INTERNVL_CPU");
}

TEST(Resize, SmallPictureByHand) {
    const Image out = resize_bicubic(synthetic_image(5, 3), 4, 4);
    const std::vector<uint8_t> rows[] = {
        {0, 29, 58, 9, 38, 67, 17, 46, 75, 26, 55, 84},
        {8, 37, 66, 18, 47, 76, 27, 56, 85, 36, 65, 94},
        {20, 49, 78, 30, 59, 88, 41, 70, 99, 52, 81, 110},
        {28, 57, 86, 39, 68, 97, 51, 80, 109, 62, 91, 120},
    };
    for (int y = 0; y < 4; ++y)
        EXPECT_EQ(std::vector<uint8_t>(&out.rgb[size_t(y) * 12], &out.rgb[size_t(y) * 12] + 12),
                  rows[y]);
}

TEST(Resize, SameSizeIsACopy) {
    const Image image = synthetic_image(61, 47);
    EXPECT_EQ(resize_bicubic(image, 61, 47).rgb, image.rgb);
}

TEST(Resize, TilesHoldThePixelsOfTheWhole) {
    const Image image = synthetic_image(90, 70);
    const Image whole = resize_bicubic(image, 60, 40);
    std::vector<uint8_t> tiles(whole.rgb.size());
    resize_bicubic_tiled(image, 60, 40, 20, 20, tiles.data());
    for (size_t y = 0; y < 40; ++y)
        for (size_t x = 0; x < 60; ++x) {
            const size_t tile = y / 20 * 3 + x / 20;
            const size_t at = tile * 20 * 20 + y % 20 * 20 + x % 20;
            for (size_t c = 0; c < 3; ++c)
                ASSERT_EQ(tiles[3 * at + c], whole.rgb[3 * (y * 60 + x) + c]) << x << "," << y;
        }
}

// Made with Pillow 13.0.0; at 12.3 and before the first three had other sums.
TEST(Resize, OrderOfThePassesAsInPillow13) {
    const Vector recent[] = {
        {30, 1100, 448, 448, 0xbfe9a5a9, 76824790}, {1080, 1920, 448, 448, 0xb93f5f42, 76770809},
        {400, 100, 376, 50, 0x074046a2, 7193387},   {400, 100, 375, 50, 0x0c0c4876, 7169644},
        {100, 80, 300, 200, 0x0610f6ae, 22984647},
    };
    for (const Vector& v : recent) {
        const Image image = synthetic_image(v.width, v.height);
        const Image out = resize_bicubic(image, v.to_width, v.to_height);
        EXPECT_EQ(crc32_of(out.rgb), v.crc) << v.width << "x" << v.height;
        EXPECT_EQ(std::accumulate(out.rgb.begin(), out.rgb.end(), int64_t(0)), v.sum);
    }
}

TEST(Resize, RefusesImpossibleSizes) {
    const Image image = synthetic_image(4, 4);
    EXPECT_NE(error_of([&] { resize_bicubic(image, 0, 4); }).find("1 to 131072"),
              std::string::npos);
    EXPECT_THROW(resize_bicubic(image, 4, -1), Error);
    EXPECT_THROW(resize_bicubic(image, 131'073, 1), Error);
    EXPECT_THROW(resize_bicubic(Image{}, 4, 4), Error);
}

}  // namespace
}  // namespace internvl
