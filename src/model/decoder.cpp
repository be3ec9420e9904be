#include "model/decoder.h"

#include <cmath>

#include "model/watch.h"

namespace internvl {

std::vector<float> rope_frequencies(double theta, int64_t head_dim) {
    std::vector<float> freq;
    for (int64_t i = 0; i < head_dim / 2; ++i) {
        const float exponent = float(2 * i) / float(head_dim);
        freq.push_back(1.0f / float(std::pow(theta, double(exponent))));
    }
    return freq;
}

// Queries, keys and values as views of the joint product: all query heads, then the key heads, then
// the value heads.
struct Heads {
    View q;     // [tokens, kv_heads, group, head_dim]
    View k, v;  // [tokens, kv_heads, head_dim]
};

static Heads split_heads(const View& qkv, int64_t heads, int64_t kv_heads, int64_t dim) {
    const auto part = [&](int64_t first, int64_t count) {
        View p(qkv.at(first * dim), qkv.dtype, {qkv.dim[0], count, dim});
        p.stride[0] = qkv.stride[0];
        return p;
    };
    const int64_t group = heads / kv_heads;
    View q(qkv.data, qkv.dtype, {qkv.dim[0], kv_heads, group, dim});
    q.stride[0] = qkv.stride[0];
    return {q, part(heads, kv_heads), part(heads + kv_heads, kv_heads)};
}

// The same values as [heads, tokens, head_dim], the order in which a cache is usually shown.
static View by_head(const View& x) {
    View y = x;
    std::swap(y.dim[0], y.dim[1]);
    std::swap(y.stride[0], y.stride[1]);
    return y;
}

Tensor Decoder::forward(Context& ctx, const Tensor& x, const Batch& batch,
                        std::span<const CacheView> caches) const {
    const RopeTable table = rope_table(ctx, batch.positions, inv_freq);
    watch(ctx, "text/embeddings", x);
    for (size_t n = 0; n < layers.size(); ++n) {
        ctx.stop_if_cancelled();
        const DecoderLayer& layer = layers[n];
        {
            const Tensor qkv = linear(ctx, norm(ctx, x, layer.attention_norm), layer.qkv);
            const Heads split = split_heads(qkv, heads, kv_heads, head_dim);
            // Queries and keys lie side by side: one rotation for both.
            View turned(qkv.data, qkv.dtype, {qkv.dim[0], heads + kv_heads, head_dim});
            turned.stride[0] = qkv.stride[0];
            rope(ctx, turned, table);
            cache_store(ctx, split.k, split.v, caches[n], batch.slots);
            watch(ctx, "text/keys", n, by_head(split.k));
            watch(ctx, "text/values", n, by_head(split.v));
            const Tensor mixed = attention(ctx, split.q, caches[n], batch.spans, true);
            linear_into(ctx, mixed, layer.out, x, {.residual = x});
        }
        const Tensor gated = swiglu(ctx, linear(ctx, norm(ctx, x, layer.mlp_norm), layer.gate_up));
        linear_into(ctx, gated, layer.down, x, {.residual = x});
        watch(ctx, "text/after_layer", n, x);
    }
    if (batch.logit_rows.empty()) return {};
    const Tensor last = norm(ctx, gather_rows(ctx, x, batch.logit_rows), final_norm);
    watch(ctx, "text/after_norm", last);
    Tensor logits = ctx.arena.get(DType::f32, {last.dim[0], head.out});
    linear_into(ctx, last, head, logits);
    watch(ctx, "text/logits", logits);
    return logits;
}

}  // namespace internvl
