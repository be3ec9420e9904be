#include "media/draw.h"

#include <algorithm>
#include <iterator>

namespace internvl {

Colour box_colour(int index) {
    constexpr Colour colours[] = {{230, 25, 75},  {60, 180, 75},  {255, 225, 25}, {0, 130, 200},
                                  {245, 130, 48}, {145, 30, 180}, {70, 240, 240}, {240, 50, 230}};
    return colours[size_t(index) % std::size(colours)];
}

struct Rectangle {
    int64_t x1, y1, x2, y2;
    Rectangle shrunk(int64_t by) const { return {x1 + by, y1 + by, x2 - by, y2 - by}; }
};

static void fill(Image& image, const Rectangle& r, Colour colour) {
    const int64_t left = std::max<int64_t>(r.x1, 0), right = std::min<int64_t>(r.x2, image.width);
    const int64_t top = std::max<int64_t>(r.y1, 0), bottom = std::min<int64_t>(r.y2, image.height);
    for (int64_t y = top; y < bottom; ++y)
        for (int64_t x = left; x < right; ++x) {
            uint8_t* pixel = &image.rgb[size_t(3 * (y * image.width + x))];
            pixel[0] = colour.red, pixel[1] = colour.green, pixel[2] = colour.blue;
        }
}

// The four sides, `thick` pixels inwards; a rectangle that has no inside becomes full.
static void frame(Image& image, const Rectangle& r, int64_t thick, Colour colour) {
    const int64_t wide = std::min(thick, (r.x2 - r.x1 + 1) / 2),
                  high = std::min(thick, (r.y2 - r.y1 + 1) / 2);
    fill(image, {r.x1, r.y1, r.x2, r.y1 + high}, colour);
    fill(image, {r.x1, r.y2 - high, r.x2, r.y2}, colour);
    fill(image, {r.x1, r.y1, r.x1 + wide, r.y2}, colour);
    fill(image, {r.x2 - wide, r.y1, r.x2, r.y2}, colour);
}

void draw_box(Image& image, int64_t x1, int64_t y1, int64_t x2, int64_t y2, Colour colour) {
    const int64_t thick = std::max(2, std::max(image.width, image.height) / 200),
                  edge = std::max<int64_t>(1, thick / 3);
    const bool light = 299 * colour.red + 587 * colour.green + 114 * colour.blue > 128 * 1000;
    const Colour contrast = light ? Colour{0, 0, 0} : Colour{255, 255, 255};
    // Coordinates far outside are as good as just outside, and cannot overflow.
    const int64_t margin = 4 * thick;
    const auto near = [&](int64_t x, int side) {
        return std::clamp<int64_t>(x, -margin, side + margin);
    };
    const Rectangle box{near(x1, image.width), near(y1, image.height), near(x2, image.width),
                        near(y2, image.height)};
    frame(image, box, thick + 2 * edge, contrast);
    frame(image, box.shrunk(edge), thick, colour);
}

}  // namespace internvl
