#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <optional>

#include "base/error.h"
#include "media/tile.h"

namespace internvl {
namespace {

// CPython's hash of a tuple of two small non-negative integers (3.8 and later, 64 bits).
uint64_t hash_of(const Grid& grid) {
    constexpr uint64_t p1 = 11400714785074694791u, p2 = 14029467366897019727u,
                       p5 = 2870177450012600261u;
    uint64_t sum = p5;
    for (int x : {grid.columns, grid.rows}) sum = std::rotl(sum + uint64_t(x) * p2, 31) * p1;
    sum += 2 ^ (p5 ^ 3527539u);
    return sum == ~uint64_t(0) ? 1546275796u : sum;
}

// As much of CPython's set as decides the order of iteration: open addressing with runs of linear
// probes, growing when three fifths full.
class PythonSet {
  public:
    PythonSet() : slots_(8) {}

    void insert(const Grid& grid) {
        if (!place(grid)) return;
        ++used_;
        if (used_ * 5 < (slots_.size() - 1) * 3) return;
        const size_t wanted = used_ > 50000 ? used_ * 2 : used_ * 4;
        size_t size = 8;
        while (size <= wanted) size *= 2;
        std::vector<std::optional<Grid>> old(size);
        old.swap(slots_);
        for (const auto& slot : old)
            if (slot) place(*slot);
    }

    std::vector<Grid> in_order() const {
        std::vector<Grid> grids;
        for (const auto& slot : slots_)
            if (slot) grids.push_back(*slot);
        return grids;
    }

  private:
    // False when the grid is already there.
    bool place(const Grid& grid) {
        constexpr size_t linear_probes = 9;
        const size_t mask = slots_.size() - 1;
        uint64_t perturb = hash_of(grid);
        for (size_t i = perturb & mask;;) {
            const size_t last = i + linear_probes <= mask ? i + linear_probes : i;
            for (size_t slot = i; slot <= last; ++slot) {
                if (slots_[slot] == grid) return false;
                if (slots_[slot]) continue;
                slots_[slot] = grid;
                return true;
            }
            perturb >>= 5;
            i = (i * 5 + 1 + perturb) & mask;
        }
    }

    std::vector<std::optional<Grid>> slots_;
    size_t used_ = 0;
};

}  // namespace

std::vector<Grid> candidate_grids(int min_num, int max_num) {
    constexpr int most = 1024;
    if (max_num < 1 || max_num > most)
        throw Error("the largest number of tiles is out of range", fmt::format("1 to {}", most),
                    std::to_string(max_num), "max_num");
    if (min_num < 1 || min_num > max_num)
        throw Error("the smallest number of tiles is out of range",
                    fmt::format("1 to {}, the largest number", max_num), std::to_string(min_num),
                    "min_num");
    // The reference inserts pairs for n = min..max, i = 1..n, j = 1..n; a pair appears first at n =
    // max(min, i, j), and inserting it again changes nothing.
    PythonSet set;
    for (int n = min_num; n <= max_num; ++n)
        for (int i = 1; i <= n; ++i) {
            const int new_from = n == min_num || i == n ? 1 : n;
            for (int j = new_from; j <= n && i * j <= max_num; ++j)
                if (i * j >= min_num) set.insert({i, j});
        }
    std::vector<Grid> grids = set.in_order();
    std::stable_sort(grids.begin(), grids.end(), [](const Grid& a, const Grid& b) {
        return a.columns * a.rows < b.columns * b.rows;
    });
    return grids;
}

Grid choose_grid(int width, int height, const TileOptions& options) {
    if (width < 1 || height < 1)
        throw Error("an image without pixels cannot be tiled", {},
                    fmt::format("{}x{}", width, height));
    if (options.side < 1 || options.side > 4096)
        throw Error("the side of a tile is out of range", "1 to 4096 pixels",
                    std::to_string(options.side));
    if (!options.tiling) return {};
    const double shape = double(width) / height;
    const double area = double(width) * height, tile_area = double(options.side) * options.side;
    Grid best;
    double best_difference = std::numeric_limits<double>::infinity();
    for (const Grid& grid : candidate_grids(options.min_num, options.max_num)) {
        const double difference = std::fabs(shape - double(grid.columns) / grid.rows);
        const bool large = area > 0.5 * tile_area * grid.columns * grid.rows;
        if (difference < best_difference || (difference == best_difference && large)) best = grid;
        best_difference = std::min(best_difference, difference);
    }
    return best;
}

}  // namespace internvl
