#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

#include "train/sample.h"

namespace internvl {

// A sample, or a part of one, within a pack.
struct PackPart {
    Sample sample;
    std::vector<int64_t> tiles;  // of its pictures, in order; text alone has one white tile
    bool pictures = true;        // false: the tile is shown to nobody
};

// Samples side by side; each attends within itself.
struct Pack {
    std::vector<PackPart> parts;
    int64_t tokens() const;
    int64_t tiles() const;
};

struct PackLimits {
    int64_t tiles = 40, tokens = 8192;
    size_t open = 20;       // packs that wait for more
    bool overflow = false;  // a pack may grow too long and is cut then, once half as many are open
    int64_t tokens_per_tile = 256;
    int picture_begin = -1, context = -1, picture_end = -1;  // ids of <img>, <IMG_CONTEXT>, </img>
};

// Fills packs with samples as they come (spec 9.8 and its corrections). A pack is ready when it has
// as many tokens or tiles as it may have; when too many are open, those with the most tiles are. A
// pack that is too long is cut, never within a picture, whose tiles go with it.
class Packer {
  public:
    explicit Packer(const PackLimits& limits) : limits_(limits) {}

    // Packs that became ready. Throws Error for a picture that no pack has room for.
    std::vector<Pack> add(PackPart);
    std::vector<Pack> finish();  // those that are left

  private:
    Pack take_open(const PackPart&);
    std::vector<Pack> pieces(Pack) const;
    void place(Pack, std::vector<Pack>& ready);

    PackLimits limits_;
    std::vector<Pack> open_;  // those with the most tiles first
};

}  // namespace internvl
