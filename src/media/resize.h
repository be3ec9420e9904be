#pragma once
#include <cstdint>

#include "base/parallel.h"
#include "media/image.h"

namespace internvl {

// Which axis is resized first. The 8-bit picture between the passes makes it visible: it changes
// some pixels of tall pictures by a few levels.
enum class PassOrder {
    pillow_13,         // rows first where they shrink by more than twice what the columns do
    horizontal_first,  // columns first always: Pillow up to 12
};

// Pillow's Image.resize((width, height), BICUBIC) on 8-bit RGB, equal in every bit (spec 1.5, and
// for the order of the passes Pillow 13.0). Throws Error unless both sizes are between 1 and
// 131,072.
Image resize_bicubic(const Image& image, int width, int height, ThreadPool* pool = nullptr,
                     PassOrder order = PassOrder::pillow_13);

// The same pixels cut into tiles of tile_width x tile_height, which must divide width and height:
// `out` is [tiles, tile_height, tile_width, 3], tiles row by row.
void resize_bicubic_tiled(const Image& image, int width, int height, int tile_width,
                          int tile_height, uint8_t* out, ThreadPool* pool = nullptr,
                          PassOrder order = PassOrder::pillow_13);

}  // namespace internvl
