#include "engine/kv_cache.h"

#include <cassert>
#include <cstring>

#include "tensor/arena.h"

namespace internvl {

KvCache::KvCache(int64_t layers, int64_t heads, int64_t head_dim, DType dtype, int64_t max_tokens)
    : blocks_((max_tokens + cache_block - 1) / cache_block) {
    CacheView view;
    view.dtype = dtype;
    view.heads = heads;
    view.head_dim = padded_head(head_dim);
    view.blocks = blocks_;
    const int64_t half =
        blocks_ * view.block_stride() * size_of(dtype);  // the keys, or the values, of one layer
    memory_ = map_memory(size_t(2 * half * layers));
    for (int64_t n = 0; n < layers; ++n) {
        view.keys = static_cast<char*>(memory_.get()) + 2 * n * half;
        view.values = static_cast<char*>(view.keys) + half;
        layers_.push_back(view);
    }
    for (int64_t b = blocks_; b-- > 0;) free_.push_back(int32_t(b));
}

std::vector<int32_t> KvCache::take(int64_t tokens) {
    const size_t count = size_t((tokens + cache_block - 1) / cache_block);
    assert(count <= free_.size());
    std::vector<int32_t> blocks(free_.rbegin(), free_.rbegin() + long(count));
    free_.resize(free_.size() - count);
    return blocks;
}

void KvCache::give_back(std::span<const int32_t> blocks) {
    free_.insert(free_.end(), blocks.rbegin(), blocks.rend());
}

void KvCache::copy_block(int32_t from, int32_t to) {
    for (const CacheView& layer : layers_) {
        const size_t bytes = size_t(layer.block_stride() * size_of(layer.dtype));
        for (void* half : {layer.keys, layer.values})
            std::memcpy(static_cast<char*>(half) + size_t(to) * bytes,
                        static_cast<const char*>(half) + size_t(from) * bytes, bytes);
    }
}

}  // namespace internvl
