#include "engine/kv_cache.h"

#include <cassert>
#include <cstring>
#include <iterator>

#include "tensor/arena.h"

namespace internvl {

KvCache::KvCache(int64_t layers, int64_t heads, int64_t head_dim, DType dtype, int64_t max_tokens)
    : pool_(blocks_for(max_tokens)) {
    CacheView view;
    view.dtype = dtype;
    view.heads = heads;
    view.head_dim = padded_head(head_dim);
    view.blocks = pool_.size();
    const int64_t half = view.blocks * view.block_stride() *
                         size_of(dtype);  // the keys, or the values, of one layer
    memory_ = map_memory(size_t(2 * half * layers));
    for (int64_t n = 0; n < layers; ++n) {
        view.keys = static_cast<char*>(memory_.get()) + 2 * n * half;
        view.values = static_cast<char*>(view.keys) + half;
        layers_.push_back(view);
    }
}

static void copy_contents(std::span<const CacheView> from, int32_t source,
                          std::span<const CacheView> to, int32_t target) {
    for (size_t n = 0; n < from.size(); ++n) {
        const size_t bytes = size_t(from[n].block_stride() * size_of(from[n].dtype));
        const auto copy = [&](const void* a, void* b) {
            std::memcpy(static_cast<char*>(b) + size_t(target) * bytes,
                        static_cast<const char*>(a) + size_t(source) * bytes, bytes);
        };
        copy(from[n].keys, to[n].keys);
        copy(from[n].values, to[n].values);
    }
}

void KvCache::copy_block(int32_t from, int32_t to) {
    copy_contents(layers_, from, layers_, to);
}

void KvCache::adopt(const KvCache& other) {
    const std::list<int32_t>& all = other.pool_.remembered();
    const size_t room = size_t(pool_.available());
    for (auto from = std::next(all.begin(), long(all.size() - std::min(room, all.size())));
         from != all.end(); ++from) {
        const int32_t to = pool_.take();
        copy_contents(other.layers_, *from, layers_, to);
        pool_.name(to, *other.pool_.name_of(*from));
        pool_.give_back(to);
    }
}

}  // namespace internvl
