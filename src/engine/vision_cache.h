#pragma once
#include <list>
#include <optional>
#include <unordered_map>

#include "engine/row_files.h"
#include "media/tile.h"

namespace internvl {

// What a tile shows: its RGB bytes. The pixels that the tower gets follow from them.
DigestKey tile_key(const Tiles&, int tile);

// Rows of tiles that the vision tower has seen, those used last, by what the tiles show. Rows do
// not depend on the company of their tile, so it does not matter where they were computed.
class VisionCache {
  public:
    explicit VisionCache(int64_t max_bytes) : max_bytes_(max_bytes) {}

    // Keeps rows in a folder, too, without a limit.
    void use_files(RowFiles files) { files_ = std::move(files); }

    // The rows [count, width] of a tile, or none.
    Tensor find(const DigestKey& tile, DType, int64_t count, int64_t width);
    void keep(const DigestKey& tile, const Tensor& rows);
    int64_t bytes() const { return bytes_; }
    int64_t evictions() const { return evictions_; }

  private:
    struct Entry {
        DigestKey tile;
        Tensor rows;
    };
    void remember(const DigestKey& tile, const Tensor& rows);

    int64_t max_bytes_, bytes_ = 0, evictions_ = 0;
    std::list<Entry> entries_;  // the one used last in front
    std::unordered_map<DigestKey, std::list<Entry>::iterator, DigestKeyHash> index_;
    std::optional<RowFiles> files_;
};

}  // namespace internvl
