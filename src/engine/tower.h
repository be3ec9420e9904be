#pragma once
#include <list>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/digest.h"
#include "media/tile.h"
#include "model/internvl.h"

namespace internvl {

// What a tile shows within a scope: rows are shared between equal scopes only.
DigestKey scoped(const std::string& scope, const DigestKey& tile);

// A tile of a picture.
struct TilePlace {
    std::shared_ptr<const Tiles> tiles;
    int tile;
};

// What the vision tower gets, [places, 3, side, side].
Tensor pixels(Context&, std::span<const TilePlace>);

// The vision tower with those who wait for it. It takes a few tiles at a time, of several owners,
// and rests between pieces of its work; a tile's rows do not depend on that.
class Tower {
  public:
    // `together`: LLM.int8 looks at all rows of a call, so that all tiles must be in it.
    Tower(Context&, const Vision&, bool together);

    // Rows of a tile for the owner's place; true when nobody else waits for the same.
    bool want(uint64_t owner, size_t place, const TilePlace&, const DigestKey& key);
    void drop(uint64_t owner);  // work that nobody wants any more is not done
    void drop_batch();          // after a failure
    bool busy() const { return !jobs_.empty(); }
    double piece_ms() const { return piece_ms_; }
    std::vector<uint64_t> owners_of_batch() const;

    struct Seen {
        DigestKey key;
        Tensor rows;                                      // [256, width]
        std::vector<std::pair<uint64_t, size_t>> wanted;  // owner, place
    };
    struct Work {
        std::vector<Seen> seen;  // of a batch that has passed
        double layers_ms = 0, projector_ms = 0;
        double batch_ms = 0;  // of that batch, from pixels to rows
        int pieces = 0;
    };
    // One piece at least, and more while `ms` last by what the last ones took; to the end of the
    // batch at most. A new batch takes the tiles of those first in `turn` first.
    Work advance(double ms, std::span<const uint64_t> turn);

  private:
    struct Job {
        TilePlace place;
        DigestKey key;
        std::vector<std::pair<uint64_t, size_t>> wanted;
        bool in_batch = false;
    };
    void begin(std::span<const uint64_t> turn);
    void advance_layer(double ms, Work&);
    void finish(Work&);

    Context& ctx_;
    const Vision& vision_;
    bool together_;
    std::list<Job> jobs_;      // as they came
    std::vector<Job*> batch_;  // those on their way
    std::optional<VisionRun> run_;
    double batch_ms_ = 0;                     // spent on it
    double piece_ms_ = 0, projector_ms_ = 0;  // what a layer of a tile, the rest of a tile took
};

}  // namespace internvl
