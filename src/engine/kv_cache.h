#pragma once
#include <memory>
#include <span>
#include <vector>

#include "engine/block_pool.h"
#include "ops/kernels.h"

namespace internvl {

constexpr int64_t blocks_for(int64_t tokens) {
    return (tokens + cache_block - 1) / cache_block;
}

// Keys and values of several sequences, in blocks of 16 tokens for every layer. Sequences take
// blocks and give them back; memory is touched as tokens come. Full blocks that have names
// (prefix_names.h) are found again by sequences that begin alike, also after they were given back.
class KvCache {
  public:
    KvCache(int64_t layers, int64_t heads, int64_t head_dim, DType dtype, int64_t max_tokens);

    const std::vector<CacheView>& layers() const { return layers_; }
    BlockPool& pool() { return pool_; }
    int64_t max_tokens() const { return pool_.size() * cache_block; }
    int64_t free_tokens() const { return pool_.available() * cache_block; }  // or remembered
    int64_t idle_tokens() const { return pool_.idle() * cache_block; }  // in memory, held by nobody

    // Blocks for so many tokens, of which at least that many must be free.
    std::vector<int32_t> take(int64_t tokens) { return pool_.take_several(blocks_for(tokens)); }
    void give_back(std::span<const int32_t> blocks) { pool_.give_back(blocks); }
    void copy_block(int32_t from, int32_t to);

    // Holds the blocks of as many of the names, from the first on, as are known.
    std::vector<int32_t> hold_known(std::span<const DigestKey> names) {
        return pool_.hold_known(names);
    }
    // What a block that is full and held contains.
    void name(int32_t block, const DigestKey& key) { pool_.name(block, key); }
    // Remembers what another cache of the same model does, as far as there is room, the latest
    // first.
    void adopt(const KvCache& other);

  private:
    BlockPool pool_;
    std::shared_ptr<void> memory_;
    std::vector<CacheView> layers_;
};

}  // namespace internvl
