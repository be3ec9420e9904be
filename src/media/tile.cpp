#include "media/tile.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cassert>
#include <numeric>

#include "base/error.h"

namespace internvl {
namespace {

constexpr std::array<float, 3> mean = {0.485f, 0.456f, 0.406f};
constexpr std::array<float, 3> deviation = {0.229f, 0.224f, 0.225f};

uint16_t to_bf16(float value) {
    const uint32_t bits = std::bit_cast<uint32_t>(value);
    return uint16_t((bits + 0x7FFF + (bits >> 16 & 1)) >> 16);
}

template <class T>
std::array<std::array<T, 256>, 3> make_table() {
    std::array<std::array<T, 256>, 3> table;
    for (size_t channel = 0; channel < 3; ++channel)
        for (size_t value = 0; value < 256; ++value) {
            const float x = (float(value) / 255.0f - mean[channel]) / deviation[channel];
            if constexpr (sizeof(T) == sizeof(float))
                table[channel][value] = x;
            else
                table[channel][value] = to_bf16(x);
        }
    return table;
}

template <class T>
void normalise_to(const Tiles& tiles, int first, int count, T* out, ThreadPool* pool) {
    assert(first >= 0 && count >= 0 && first + count <= tiles.count);
    const auto table = make_table<T>();
    const size_t side = size_t(tiles.side), plane = side * side;
    const auto rows = [&](int64_t begin, int64_t end, int) {
        for (size_t row = size_t(begin); row < size_t(end); ++row) {
            const uint8_t* in = &tiles.rgb[(size_t(first) * side + row) * side * 3];
            T* red = out + row / side * 3 * plane + row % side * side;
            T *green = red + plane, *blue = green + plane;
            for (size_t x = 0; x < side; ++x) {
                red[x] = table[0][in[3 * x]];
                green[x] = table[1][in[3 * x + 1]];
                blue[x] = table[2][in[3 * x + 2]];
            }
        }
    };
    const int64_t total = int64_t(count) * tiles.side;
    if (pool)
        pool->parallel_for(total, 64, rows);
    else
        rows(0, total, 0);
}

}  // namespace

int count_tiles(int width, int height, const TileOptions& options) {
    const Grid grid = choose_grid(width, height, options);
    const int cells = grid.columns * grid.rows;
    return cells + int(options.thumbnail && cells != 1);
}

void fit_tiles(std::span<const std::pair<int, int>> sizes, std::span<TileOptions> options,
               int total) {
    if (sizes.size() > size_t(std::max(total, 0)))
        throw Error("more pictures than tiles", fmt::format("at most {} pictures", total),
                    fmt::format("{}", sizes.size()), "total-max-num");
    std::vector<int> tiles;
    for (size_t i = 0; i < sizes.size(); ++i)
        tiles.push_back(count_tiles(sizes[i].first, sizes[i].second, options[i]));
    while (std::accumulate(tiles.begin(), tiles.end(), 0) > total) {
        // The last of those with the most tiles: earlier pictures keep theirs.
        const size_t most = tiles.size() - 1 -
                            size_t(std::max_element(tiles.rbegin(), tiles.rend()) - tiles.rbegin());
        TileOptions& o = options[most];
        o.max_num = std::min(o.max_num, tiles[most]) - 1;
        o.min_num = std::min(o.min_num, o.max_num);
        tiles[most] = count_tiles(sizes[most].first, sizes[most].second, o);
    }
}

Tiles cut_tiles(const Image& image, const TileOptions& options, ThreadPool* pool) {
    Tiles tiles;
    tiles.grid = choose_grid(image.width, image.height, options);
    tiles.side = options.side;
    const int cells = tiles.grid.columns * tiles.grid.rows;
    tiles.count = count_tiles(image.width, image.height, options);
    const size_t side = size_t(tiles.side), tile_bytes = side * side * 3;
    tiles.rgb.resize(tile_bytes * size_t(tiles.count));
    resize_bicubic_tiled(image, tiles.grid.columns * options.side, tiles.grid.rows * options.side,
                         options.side, options.side, tiles.rgb.data(), pool, options.order);
    if (tiles.count > cells)
        resize_bicubic_tiled(image, options.side, options.side, options.side, options.side,
                             &tiles.rgb[tile_bytes * size_t(cells)], pool, options.order);
    return tiles;
}

void normalise(const Tiles& tiles, int first, int count, float* out, ThreadPool* pool) {
    normalise_to(tiles, first, count, out, pool);
}

void normalise(const Tiles& tiles, int first, int count, uint16_t* out, ThreadPool* pool) {
    normalise_to(tiles, first, count, out, pool);
}

}  // namespace internvl
