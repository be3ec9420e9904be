#include "media/draw.h"

#include "support.h"

namespace internvl {

static Image ground(int width, int height, uint8_t gray) {
    return {width, height, std::vector<uint8_t>(size_t(3) * size_t(width) * size_t(height), gray)};
}

// 'c' the colour, 'k' black, 'w' white, '.' the ground.
static std::string row(const Image& image, int y, Colour colour) {
    std::string text;
    for (int x = 0; x < image.width; ++x) {
        const uint8_t* p = &image.rgb[size_t(3 * (y * image.width + x))];
        const auto is = [&](Colour c) {
            return p[0] == c.red && p[1] == c.green && p[2] == c.blue;
        };
        text += is(colour) ? 'c' : is({0, 0, 0}) ? 'k' : is({255, 255, 255}) ? 'w' : '.';
    }
    return text;
}

TEST(DrawBox, FramesInsideTheCornersWithLinesThatShow) {
    const Colour red{230, 25, 75}, yellow{255, 225, 25};
    Image image = ground(20, 16, 100);
    draw_box(image, 2, 3, 18, 14, red);
    EXPECT_EQ(row(image, 2, red), "....................");
    EXPECT_EQ(row(image, 3, red), "..wwwwwwwwwwwwwwww..");
    EXPECT_EQ(row(image, 4, red), "..wccccccccccccccw..");
    EXPECT_EQ(row(image, 5, red), "..wccccccccccccccw..");
    EXPECT_EQ(row(image, 6, red), "..wccwwwwwwwwwwccw..");
    EXPECT_EQ(row(image, 8, red), "..wccw........wccw..");
    EXPECT_EQ(row(image, 13, red), "..wwwwwwwwwwwwwwww..");
    EXPECT_EQ(row(image, 14, red), "....................");
    draw_box(image, 2, 3, 18, 14, yellow);  // light colours stand on black
    EXPECT_EQ(row(image, 8, yellow), "..kcck........kcck..");
}

TEST(DrawBox, IsCutAtTheBorder) {
    const Colour red{230, 25, 75};
    Image image = ground(12, 10, 100);
    draw_box(image, -100, 4, 6, 1'000'000'000'000, red);
    EXPECT_EQ(row(image, 3, red), "............");
    EXPECT_EQ(row(image, 4, red), "wwwwww......");
    EXPECT_EQ(row(image, 5, red), "cccccw......");
    EXPECT_EQ(row(image, 9, red), "..wccw......");
    // Nothing of these lies in the picture, or they are upside down: no byte is written outside.
    for (const auto& [x1, y1, x2, y2] : std::vector<std::array<int64_t, 4>>{
             {INT64_MIN, INT64_MIN, INT64_MIN, INT64_MIN}, {50, 50, 60, 60}, {6, 6, 2, 2}}) {
        Image same = ground(12, 10, 100);
        draw_box(same, x1, y1, x2, y2, red);
        EXPECT_EQ(same.rgb, ground(12, 10, 100).rgb) << x1;
    }
    Image all = ground(12, 10, 100);
    draw_box(all, 0, 0, 12, 10, red);
    EXPECT_EQ(row(all, 0, red), "wwwwwwwwwwww");
    EXPECT_EQ(row(all, 5, red), "wccw....wccw");
    draw_box(all, 5, 5, 7, 6, red);  // smaller than its frame: still seen
    EXPECT_NE(row(all, 5, red), "wccw....wccw");
    Image empty;
    draw_box(empty, 0, 0, 5, 5, red);
}

TEST(DrawBox, IsThickerInLargePictures) {
    const Colour red{230, 25, 75};
    Image image = ground(1600, 1000, 100);
    draw_box(image, 100, 100, 1500, 900, red);
    const std::string line = row(image, 500, red);
    EXPECT_EQ(line.substr(100, 13), "wwccccccccww.");
}

TEST(BoxColour, GoesRound) {
    EXPECT_NE(box_colour(0).red, box_colour(1).red);
    EXPECT_EQ(box_colour(0).red, box_colour(8).red);
}

}  // namespace internvl
