#pragma once
#include <cstdint>
#include <span>
#include <utility>
#include <vector>

#include "base/parallel.h"
#include "media/image.h"
#include "media/resize.h"

namespace internvl {

struct TileOptions {
    int min_num = 1, max_num = 12;  // how many tiles, the thumbnail not counted
    bool thumbnail = true;          // add the whole picture when there is more than one tile
    bool tiling = true;             // false: one tile whatever the shape
    int side = 448;                 // pixels
    PassOrder order = PassOrder::pillow_13;
};

struct Grid {
    int columns = 1, rows = 1;
    bool operator==(const Grid&) const = default;
};

// All grids of min_num to max_num tiles in the order in which the reference tries them: by number
// of tiles, equal ones in CPython's order of a set of tuples (spec 1.4). 1 <= max_num <= 1024,
// anything else throws Error.
std::vector<Grid> candidate_grids(int min_num, int max_num);

// The grid whose shape is nearest to the picture's (spec 1.2). Throws Error for options that make
// no sense and for sizes below 1.
Grid choose_grid(int width, int height, const TileOptions& options);

// How many tiles a picture is cut into, the thumbnail included.
int count_tiles(int width, int height, const TileOptions& options);

// Lowers max_num of the pictures that have the most tiles until all together have at most `total`.
// sizes: width and height of each; options: one for each. Throws Error when there are more pictures
// than tiles.
void fit_tiles(std::span<const std::pair<int, int>> sizes, std::span<TileOptions> options,
               int total);

struct Tiles {
    Grid grid;
    int count = 0, side = 0;
    std::vector<uint8_t> rgb;  // [count, side, side, 3], the thumbnail last
};

// Stretches the picture over the grid and cuts it (spec 1.3).
Tiles cut_tiles(const Image& image, const TileOptions& options, ThreadPool* pool = nullptr);

// ToTensor and Normalize with ImageNet's mean and deviation (spec 1.6) for tiles [first, first +
// count). out: [count, 3, side, side], as fp32 or as bf16 rounded to nearest even.
void normalise(const Tiles& tiles, int first, int count, float* out, ThreadPool* pool = nullptr);
void normalise(const Tiles& tiles, int first, int count, uint16_t* out, ThreadPool* pool = nullptr);

}  // namespace internvl
