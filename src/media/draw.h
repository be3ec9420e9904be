#pragma once
#include <cstdint>

#include "media/image.h"

namespace internvl {

struct Colour {
    uint8_t red, green, blue;
};
// One of a few that are easy to tell apart, in turn.
Colour box_colour(int index);

// Draws the frame of a rectangle just inside its corners (pixels, the second pair not included), as
// thick as the picture is large, between two thin lines of black or white so that it shows on any
// ground. What lies outside of the picture is left out.
void draw_box(Image& image, int64_t x1, int64_t y1, int64_t x2, int64_t y2, Colour colour);

}  // namespace internvl
