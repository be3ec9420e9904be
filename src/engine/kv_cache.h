#pragma once
#include <memory>
#include <vector>

#include "ops/kernels.h"

namespace internvl {

// Keys and values of one sequence, in blocks of 16 tokens for every layer. Memory is touched as
// tokens come.
class KvCache {
  public:
    KvCache(int64_t layers, int64_t heads, int64_t head_dim, DType dtype, int64_t max_tokens);

    const std::vector<CacheView>& layers() const { return layers_; }
    const int32_t* block_table() const { return table_.data(); }
    int64_t max_tokens() const { return int64_t(table_.size()) * cache_block; }

  private:
    std::shared_ptr<void> memory_;
    std::vector<CacheView> layers_;
    std::vector<int32_t> table_;
};

}  // namespace internvl
