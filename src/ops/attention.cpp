#include <cmath>
#include <vector>

#include "ops/ops.h"
#include "ops/tape.h"

namespace internvl {

static void attend(Context& ctx, const View& q, const View& out, const CacheView& cache,
                   std::span<const AttentionSpan> spans, bool causal) {
    Tensor scratch = ctx.arena.get(DType::f32, {attention_scratch(cache) * ctx.pool.threads()});
    AttentionArgs args;
    args.q = q;
    args.out = out.reshape({q.dim[0], q.dim[1], q.dim[2], q.dim[3]});
    args.cache = cache;
    args.spans = spans.data();
    args.span_count = int(spans.size());
    args.causal = causal;
    args.scale = 1.0f / std::sqrt(float(q.dim[3]));
    args.scratch = scratch.as<float>();
    ctx.kernels.attention(args, ctx.pool);
}

Tensor attention(Context& ctx, const View& q, const CacheView& cache,
                 std::span<const AttentionSpan> spans, bool causal) {
    assert(q.rank == 4 && q.dim[1] == cache.heads && padded_head(q.dim[3]) == cache.head_dim);
    assert(!ctx.tape);
    Tensor out = ctx.arena.get(ctx.activations, {q.dim[0], q.dim[1] * q.dim[2] * q.dim[3]});
    attend(ctx, q, out, cache, spans, causal);
    return out;
}

// A cache of one call only: each run of rows has whole blocks of its own.
struct OwnCache {
    Tensor store;
    CacheView view;
    std::vector<int32_t> slots, table;
    std::vector<AttentionSpan> spans;

    OwnCache(Context& ctx, const View& k, std::span<const AttentionSpan> runs) {
        const auto blocks_of = [](const AttentionSpan& run) {
            return (run.query_count + cache_block - 1) / cache_block;
        };
        int64_t blocks = 0;
        for (const AttentionSpan& run : runs) blocks += blocks_of(run);
        table.resize(size_t(blocks));
        for (int64_t b = 0; b < blocks; ++b) table[size_t(b)] = int32_t(b);
        slots.resize(size_t(k.dim[0]));
        int64_t first = 0;
        for (const AttentionSpan& run : runs) {
            for (int64_t r = 0; r < run.query_count; ++r)
                slots[size_t(run.query_begin + r)] = int32_t(first * cache_block + r);
            spans.push_back(
                {run.query_begin, run.query_count, run.query_count, table.data() + first});
            first += blocks_of(run);
        }
        const int64_t heads = k.dim[1], padded = padded_head(k.dim[2]);
        store = ctx.arena.get(ctx.activations, {2, blocks, heads, cache_block * padded});
        view = {store.data, store.slice(0, 1, 1).data, ctx.activations, heads, padded, blocks};
    }
};

static void attention_backward(Context& ctx, const View& q, const View& k, const View& v,
                               const View& out, std::span<const AttentionSpan> runs, bool causal) {
    Tape& tape = *ctx.tape;
    AttentionBackwardArgs args;
    args.q = q, args.k = k, args.v = v;
    args.dout = tape.gradient(out).reshape({q.dim[0], q.dim[1], q.dim[2], q.dim[3]});
    args.dq = tape.gradient(q), args.dk = tape.gradient(k), args.dv = tape.gradient(v);
    args.spans = runs.data();
    args.span_count = int(runs.size());
    args.causal = causal;
    args.scale = 1.0f / std::sqrt(float(q.dim[3]));
    const Tensor scratch =
        ctx.arena.get(DType::f32, {attention_backward_scratch(args, ctx.pool.threads())});
    args.scratch = scratch.as<float>();
    ctx.kernels.attention_backward(args, ctx.pool);
}

Tensor attention_dense(Context& ctx, const View& q, const View& k, const View& v,
                       std::span<const AttentionSpan> runs, bool causal) {
    assert(q.rank == 4 && k.rank == 3 && q.dim[0] == k.dim[0] && q.dim[1] == k.dim[1]);
    const OwnCache own(ctx, k, runs);
    cache_store(ctx, k, v, own.view, own.slots);
    Tensor out = ctx.make(ctx.activations, {q.dim[0], q.dim[1] * q.dim[2] * q.dim[3]});
    attend(ctx, q, out, own.view, own.spans, causal);
    if (ctx.tape)
        ctx.tape->record([q, k, v, causal, mixed = View(out),
                          kept = std::vector<AttentionSpan>(runs.begin(), runs.end())](Context& c) {
            attention_backward(c, q, k, v, mixed, kept, causal);
        });
    return out;
}

}  // namespace internvl
