#pragma once
#include "ops/cases.h"

namespace internvl {

struct AttentionShape {
    int64_t kv_heads, group, head_dim;
    std::vector<std::pair<int64_t, int64_t>> spans;  // queries, keys of each sequence
    bool causal;
};

// A cache filled by cache_store, its blocks in shuffled order, and what earlier owners left there
// not a number.
struct AttentionCase {
    // `coded`: the cache holds bytes.
    AttentionCase(const AttentionShape&, DType, bool coded = false);
    void store(const Kernels&, ThreadPool&);
    void run(const Kernels&, ThreadPool&);  // after store()
    double error() const;

    AttentionShape shape;
    Tensor q, k, v, out;
    Tensor seen_k, seen_v;           // as the cache gives them back
    std::vector<int64_t> first_key;  // of each span in k and v
    CacheView cache;
    std::shared_ptr<void> memory;
    std::vector<int32_t> slots;
    std::vector<std::vector<int32_t>> tables;
    std::vector<AttentionSpan> spans;
    std::vector<float> scratch;
};

void add_attention(std::vector<OpCase>& list);

}  // namespace internvl
