#pragma once
#include <memory>
#include <span>
#include <vector>

#include "ops/kernels.h"

namespace internvl {

// Keys and values of several sequences, in blocks of 16 tokens for every layer. A sequence takes
// the blocks that it may ever need and gives them back; memory is touched as tokens come.
class KvCache {
  public:
    KvCache(int64_t layers, int64_t heads, int64_t head_dim, DType dtype, int64_t max_tokens);

    const std::vector<CacheView>& layers() const { return layers_; }
    int64_t max_tokens() const { return blocks_ * cache_block; }
    int64_t free_tokens() const { return int64_t(free_.size()) * cache_block; }

    // Blocks for so many tokens, of which at least that many must be free.
    std::vector<int32_t> take(int64_t tokens);
    void give_back(std::span<const int32_t> blocks);
    void copy_block(int32_t from, int32_t to);

  private:
    int64_t blocks_;
    std::shared_ptr<void> memory_;
    std::vector<CacheView> layers_;
    std::vector<int32_t> free_;  // the next one last
};

}  // namespace internvl
