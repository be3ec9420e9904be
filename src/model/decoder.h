#pragma once
#include <span>
#include <vector>

#include "ops/ops.h"

namespace internvl {

// Which rows a call computes: tokens of one or several sequences, one sequence after the other. The
// decoder knows no requests; who is who lies in the cache slots and block tables.
struct Batch {
    std::vector<int32_t> positions;            // [tokens] for the rotary embedding
    std::vector<int32_t> slots;                // [tokens] where their keys and values go
    std::vector<AttentionSpan> spans;          // a sequence each
    std::vector<const RopeFrequencies*> rope;  // [spans]
    std::vector<int> logit_rows;               // tokens whose logits are wanted
};

// One pre-norm block (spec 5): x += out(attention(norm(x))); x += down(silu(gate) * up) of norm(x).
struct DecoderLayer {
    Norm attention_norm, mlp_norm;
    Norm q_norm, k_norm;  // of each head before the rotation, or absent (Qwen3)
    Linear qkv, out;
    Linear gate_up, down;
};

// The language model (spec 5): grouped-query attention with rotary positions, gated MLP, RMS norms.
struct Decoder {
    int64_t heads = 0, kv_heads = 0, head_dim = 0;
    // Rows of the joint product: all queries, all keys, all values; or, for each key/value head,
    // its queries, its key, its value (spec 5.2).
    bool interleaved = false;
    Tensor embedding;  // [vocab, width], as filed
    std::vector<DecoderLayer> layers;
    Norm final_norm;
    Linear head;

    // rows [tokens, width] (consumed: changed in place), caches: one view per layer, or none: then
    // spans attend within themselves, and a tape may record; batch must live until backward has
    // run.
    // -> logits [logit_rows, vocab] in f32, absent when none are wanted.
    Tensor forward(Context&, const Tensor& rows, const Batch&,
                   std::span<const CacheView> caches) const;
    // The same without the head: [logit_rows, width], normed.
    Tensor last_rows(Context&, const Tensor& rows, const Batch&,
                     std::span<const CacheView> caches) const;

    int64_t width() const { return embedding.dim[1]; }
    int64_t vocab() const { return embedding.dim[0]; }
};

}  // namespace internvl
