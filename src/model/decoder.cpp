#include "model/decoder.h"

#include "model/watch.h"
#include "ops/tape.h"

namespace internvl {

// Queries, keys and values as views of the joint product; how a family interleaves its rows is
// another stride and offset.
struct Heads {
    View q;     // [tokens, kv_heads, group, head_dim]
    View k, v;  // [tokens, kv_heads, head_dim]
    View qk;    // [tokens, groups, heads, head_dim]: queries and keys where they lie side by side
};

static Heads split_heads(const View& qkv, const Decoder& d) {
    const int64_t tokens = qkv.dim[0], row = qkv.stride[0], kv = d.kv_heads, dim = d.head_dim;
    const int64_t group = d.heads / kv;
    const auto heads_at = [&](int64_t first, int64_t groups, int64_t stride, int64_t heads) {
        View p(qkv.at(first * dim), qkv.dtype, {tokens, groups, heads, dim});
        p.stride[0] = row;
        p.stride[1] = stride * dim;
        return p;
    };
    const auto one_each = [&](int64_t first, int64_t stride) {
        View p(qkv.at(first * dim), qkv.dtype, {tokens, kv, dim});
        p.stride[0] = row;
        p.stride[1] = stride * dim;
        return p;
    };
    if (d.interleaved)
        return {heads_at(0, kv, group + 2, group), one_each(group, group + 2),
                one_each(group + 1, group + 2), heads_at(0, kv, group + 2, group + 1)};
    return {heads_at(0, kv, group, group), one_each(d.heads, 1), one_each(d.heads + kv, 1),
            heads_at(0, 1, 0, d.heads + kv)};
}

static RopeTable rope_table(Context& ctx, const Batch& batch, int64_t head_dim) {
    const RopeTable table = rope_table(ctx, int64_t(batch.positions.size()), head_dim);
    for (size_t s = 0; s < batch.spans.size(); ++s) {
        const AttentionSpan& span = batch.spans[s];
        rope_rows(
            ctx, table, span.query_begin,
            std::span(batch.positions).subspan(size_t(span.query_begin), size_t(span.query_count)),
            *batch.rope[s]);
    }
    return table;
}

// x [tokens, kv_heads, group, head_dim] as [tokens, heads, head_dim].
static View joined(const View& q) {
    View v(q.data, q.dtype, {q.dim[0], q.dim[1] * q.dim[2], q.dim[3]});
    v.stride[0] = q.stride[0];
    return v;
}

// The same values as [heads, tokens, head_dim], the order in which a cache is usually shown.
static View by_head(const View& x) {
    View y = x;
    std::swap(y.dim[0], y.dim[1]);
    std::swap(y.stride[0], y.stride[1]);
    return y;
}

// x [tokens, width], changed in place. Without a cache each span attends within itself.
static void run_layer(Context& ctx, const Decoder& d, size_t n, const View& x,
                      const RopeTable& table, const Batch& batch, const CacheView* cache) {
    const DecoderLayer& layer = d.layers[n];
    {
        const Tensor qkv = linear(ctx, norm(ctx, x, layer.attention_norm), layer.qkv);
        const Heads split = split_heads(qkv, d);
        if (layer.q_norm.weight) {
            norm_heads(ctx, joined(split.q), layer.q_norm);
            norm_heads(ctx, split.k, layer.k_norm);
        }
        rope(ctx, split.qk, table);
        if (cache) cache_store(ctx, split.k, split.v, *cache, batch.slots);
        watch(ctx, "text/keys", n, by_head(split.k));
        watch(ctx, "text/values", n, by_head(split.v));
        const Tensor mixed =
            cache ? attention(ctx, split.q, *cache, batch.spans, true)
                  : attention_dense(ctx, split.q, split.k, split.v, batch.spans, true);
        linear_into(ctx, mixed, layer.out, x, {.residual = x});
    }
    const Tensor gated = swiglu(ctx, linear(ctx, norm(ctx, x, layer.mlp_norm), layer.gate_up));
    linear_into(ctx, gated, layer.down, x, {.residual = x});
    watch(ctx, "text/after_layer", n, x);
}

Tensor Decoder::last_rows(Context& ctx, const Tensor& x, const Batch& batch,
                          std::span<const CacheView> caches) const {
    const RopeTable table = rope_table(ctx, batch, head_dim);
    watch(ctx, "text/embeddings", x);
    for (size_t n = 0; n < layers.size(); ++n) {
        ctx.stop_if_cancelled();
        const CacheView* const cache = caches.empty() ? nullptr : &caches[n];
        checkpointed(ctx, x, [this, n, rows = View(x), &batch, table, cache](Context& c) {
            run_layer(c, *this, n, rows, table, batch, cache);
        });
    }
    if (batch.logit_rows.empty()) return {};
    Tensor last = norm(ctx, gather_rows(ctx, x, batch.logit_rows), final_norm);
    watch(ctx, "text/after_norm", last);
    return last;
}

Tensor Decoder::forward(Context& ctx, const Tensor& x, const Batch& batch,
                        std::span<const CacheView> caches) const {
    const Tensor last = last_rows(ctx, x, batch, caches);
    if (!last) return {};
    Tensor logits = ctx.make(DType::f32, {last.dim[0], head.out});
    linear_into(ctx, last, head, logits);
    watch(ctx, "text/logits", logits);
    return logits;
}

}  // namespace internvl
