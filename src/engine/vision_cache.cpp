#include "engine/vision_cache.h"

namespace internvl {

DigestKey tile_key(const Tiles& tiles, int tile) {
    const size_t bytes = size_t(tiles.side) * size_t(tiles.side) * 3;
    return Digest().update(tiles.rgb.data() + size_t(tile) * bytes, bytes).key();
}

Tensor VisionCache::find(const DigestKey& tile, DType dtype, int64_t count, int64_t width) {
    if (const auto found = index_.find(tile); found != index_.end()) {
        entries_.splice(entries_.begin(), entries_, found->second);
        return found->second->rows;
    }
    if (!files_) return {};
    Tensor rows = files_->read(tile, dtype, count, width);
    if (rows) remember(tile, rows);
    return rows;
}

void VisionCache::keep(const DigestKey& tile, const Tensor& rows) {
    if (files_) files_->write(tile, rows);
    remember(tile, rows);
}

void VisionCache::remember(const DigestKey& tile, const Tensor& rows) {
    if (rows.bytes() > max_bytes_ || index_.contains(tile)) return;
    entries_.push_front({tile, rows});
    index_[tile] = entries_.begin();
    for (bytes_ += rows.bytes(); bytes_ > max_bytes_; entries_.pop_back()) {
        bytes_ -= entries_.back().rows.bytes();
        index_.erase(entries_.back().tile);
        ++evictions_;
    }
}

}  // namespace internvl
