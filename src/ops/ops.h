#pragma once
// The operations a model is written in. Each checks shapes, takes its result from the arena and
// calls one kernel (or composes a few); none keeps state. With a tape (tape.h) each also records
// its backward; parameters and tables must then live until that has run.

#include <span>
#include <vector>

#include "ops/context.h"
#include "ops/linear.h"

namespace internvl {

// Layer norm with a bias, RMS norm without one.
struct Norm {
    Tensor weight, bias;  // [width] f32
    float epsilon = 0;
};

// x [rows, width] -> the same shape.
Tensor norm(Context&, const View& x, const Norm&);
// x [tokens, heads, head_dim] in place: by a weight of head_dim each head by itself (Qwen3), by one
// of heads * head_dim all heads of a token as one row, which must be contiguous (InternViT-6B).
void norm_heads(Context&, const View& x, const Norm&);

// gate_up [rows, 2*width] -> silu(gate) * up, [rows, width].
Tensor swiglu(Context&, const View& gate_up);

// Rows of a table [entries, width] of any float type, in the order of `ids` -> [ids, width].
Tensor gather_rows(Context&, const View& table, std::span<const int> ids);

// Converts and moves: same shape, any strides with a contiguous last dimension.
void copy(Context&, const View& from, const View& to);

struct RopeFrequencies {
    std::vector<float> inv_freq;  // [head_dim/2]
    float magnitude = 1;          // of the rotated vector (longrope's attention factor)
};

// magnitude * cosine and sine of position * inv_freq, all in fp32 (golden: angles are fp32
// products).
struct RopeTable {
    Tensor cos, sin;  // [tokens, head_dim/2]
};
RopeTable rope_table(Context&, int64_t tokens, int64_t head_dim);
// Fills the rows of tokens [first, first + positions).
void rope_rows(Context&, const RopeTable&, int64_t first, std::span<const int32_t> positions,
               const RopeFrequencies&);

// x [tokens, groups, heads, head_dim], rotated in place.
void rope(Context&, const View& x, const RopeTable&);

// keys, values [tokens, heads, head_dim] into their slots.
void cache_store(Context&, const View& keys, const View& values, const CacheView&,
                 std::span<const int32_t> slots);

// q [tokens, kv_heads, group, head_dim] against the cache -> [tokens, kv_heads*group*head_dim],
// scores scaled by head_dim^-0.5. Causal: a query sees its own key and those before it. Not with a
// tape: training has no cache.
Tensor attention(Context&, const View& q, const CacheView&, std::span<const AttentionSpan>,
                 bool causal);

// Attention within runs of rows that do not see each other: q [rows, kv_heads, group, head_dim], k,
// v [rows, kv_heads, head_dim] -> [rows, kv_heads*group*head_dim]. Of a run only its rows count,
// the query_begin and query_count of a span.
Tensor attention_dense(Context&, const View& q, const View& k, const View& v,
                       std::span<const AttentionSpan> runs, bool causal);

// pixels [tiles, 3, side, side] -> [tiles*(side/patch)^2, 3*patch*patch], the order of a flattened
// convolution kernel.
Tensor patches(Context&, const View& pixels, int64_t patch);

// [tiles, side, side, width] -> [tiles*(side/2)^2, 4*width]: the 2x2 neighbours (0,0) (0,1) (1,0)
// (1,1) of (row, column) side by side (spec 4.1, v2); v1 also transposes the grid.
Tensor pixel_shuffle(Context&, const View& x, bool transposed);

// logits [rows, vocab] f32, the tokens that should come -> their losses [rows] f32. Where backward
// begins: what it finds the gradients of is the sum of weight * loss.
Tensor cross_entropy(Context&, const View& logits, std::span<const int32_t> targets,
                     std::span<const float> weights);

}  // namespace internvl
