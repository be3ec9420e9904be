#include "engine/kv_cache.h"

#include <numeric>

#include "tensor/arena.h"

namespace internvl {

KvCache::KvCache(int64_t layers, int64_t heads, int64_t head_dim, DType dtype, int64_t max_tokens) {
    const int64_t blocks = (max_tokens + cache_block - 1) / cache_block;
    CacheView view;
    view.dtype = dtype;
    view.heads = heads;
    view.head_dim = padded_head(head_dim);
    view.blocks = blocks;
    const int64_t half =
        blocks * view.block_stride() * size_of(dtype);  // the keys, or the values, of one layer
    memory_ = map_memory(size_t(2 * half * layers));
    for (int64_t n = 0; n < layers; ++n) {
        view.keys = static_cast<char*>(memory_.get()) + 2 * n * half;
        view.values = static_cast<char*>(view.keys) + half;
        layers_.push_back(view);
    }
    table_.resize(size_t(blocks));
    std::iota(table_.begin(), table_.end(), 0);
}

}  // namespace internvl
