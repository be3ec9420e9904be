// Attention over cache blocks: scores of a few rows against 256 keys at a time stay in the
// second-level cache, with a running maximum and sum per row (online softmax). Keys are cut at
// absolute positions, so that a row's result does not depend on how its prompt was cut.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/attention.cpp"
#include "ops/cpu/target.h"
//
#include <hwy/foreach_target.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "ops/cpu/soften.h"
#include "ops/cpu/tile-inl.h"

namespace internvl {
#ifndef INTERNVL_ATTENTION_SIZES
#define INTERNVL_ATTENTION_SIZES
static constexpr int64_t key_span = 256;  // keys scored at a time
// Without a causal mask all rows see the same keys, and one more block of them (1025 = 4 * 256 + 1)
// joins the last span.
static constexpr int64_t most_keys = key_span + cache_block;
static constexpr int64_t span_blocks = most_keys / cache_block;
static constexpr int64_t row_span = 8 * tile_rows;  // query rows of one task
#endif
}  // namespace internvl

HWY_BEFORE_NAMESPACE();
namespace internvl {
namespace HWY_NAMESPACE {

// What one task works on; T is the type of activations and cache, `weights` holds probabilities as
// T.
template <class T>
struct Scratch {
    T* queries;      // [row_span, head_dim]
    T* weights;      // [row_span, most_keys]
    float* scores;   // [row_span, most_keys]
    float* sums;     // [row_span, head_dim] weighted values
    float* maximum;  // [row_span]
    float* total;    // [row_span]
    T* widened;      // [2, span_blocks] blocks of keys and values, when the cache holds codes

    Scratch(float* memory, int64_t head_dim) {
        scores = memory;
        sums = scores + row_span * most_keys;
        maximum = sums + row_span * head_dim;
        total = maximum + row_span;
        weights = reinterpret_cast<T*>(total + row_span);
        queries = weights + row_span * most_keys;
        widened = queries + row_span * head_dim;
    }
};

template <class T>
struct Head {
    const AttentionArgs& args;
    const AttentionSpan& span;
    int64_t kv_head;

    int64_t group() const { return args.q.dim[2]; }
    // Row r of a sequence is query r / group, head r % group of the group that shares this
    // key/value head.
    T* row(const View& v, int64_t r) const {
        return v.as<T>() + (span.query_begin + r / group()) * v.stride[0] + kv_head * v.stride[1] +
               r % group() * v.stride[2];
    }
    int64_t keys_of(int64_t r) const {
        return args.causal ? span.key_count - span.query_count + r / group() + 1 : span.key_count;
    }
    // Where block i of the sequence lies, keys or values.
    const void* block(const void* base, int64_t i) const {
        const CacheView& c = args.cache;
        return static_cast<const char*>(base) +
               (span.block_table[i] * c.block_stride() + kv_head * c.head_stride()) *
                   size_of(c.dtype);
    }
};

// A block of codes as the activation type, in the same order: lines of keys [head_dim/P][16][P], of
// values [16/P][head_dim][P].
template <class T>
static void widen_block(const void* block, int64_t head_dim, bool values, T* to) {
    constexpr int64_t pack = sizeof(T) == 2 ? 2 : 1;
    const int8_t* codes = static_cast<const int8_t*>(block);
    float scale[cache_block];  // of a token
    std::memcpy(scale, codes + cache_block * head_dim, sizeof scale);
    const int64_t lines = values ? cache_block / pack : head_dim / pack;
    const int64_t width = values ? head_dim * pack : cache_block * pack;
    HWY_ALIGN float by[cache_block * pack];  // of 16 pairs, or single values
    const hn::Rebind<int8_t, D> bytes;
    for (int64_t line = 0; line < lines; ++line) {
        for (int64_t i = 0; i < cache_block * pack && (values || line == 0); ++i)
            by[i] = scale[values ? line * pack + i % pack : i / pack];
        for (int64_t i = 0; i < width; i += lanes) {
            const auto code = hn::PromoteTo(DI(), hn::LoadU(bytes, codes + line * width + i));
            store(hn::Mul(hn::ConvertTo(D(), code), load(by + i % (cache_block * pack))),
                  to + line * width + i);
        }
    }
}

// soften.h, in fp32.
template <class T>
static void soften(float* scores, int64_t count, int64_t padded, float scale, const SoftState& s,
                   void* weights) {
    const D d;
    const V low = hn::Set(d, -std::numeric_limits<float>::infinity());
    for (int64_t i = count; i < padded; ++i) scores[i] = -std::numeric_limits<float>::infinity();
    V top = low;
    for (int64_t i = 0; i < padded; i += lanes) top = hn::Max(top, load(scores + i));
    const float now = std::max(*s.maximum, hn::GetLane(hn::MaxOfLanes(d, top)));
    const V minus = hn::Set(d, -now * scale), by = hn::Set(d, scale);
    V sum = hn::Zero(d);
    for (int64_t i = 0; i < padded; i += lanes) {
        const V p = exp_of(hn::MulAdd(load(scores + i), by, minus));
        sum = hn::Add(sum, p);
        store(p, static_cast<T*>(weights) + i);
    }
    // 0 for the first keys: the maximum was -infinity.
    const float keep = std::exp((*s.maximum - now) * scale);
    *s.total = *s.total * keep + hn::GetLane(hn::SumOfLanes(d, sum));
    *s.maximum = now;
    if (keep != 1.0f)
        for (int64_t i = 0; i < s.head_dim; i += lanes)
            store(hn::Mul(load(s.sums + i), hn::Set(d, keep)), s.sums + i);
}

// The two things that differ between instruction sets.
struct Steps {
    TileKernel tile;
    SoftenRow soften;
};

// Keys [first, first + span) against `rows` rows of the task that starts at row `begin`.
template <class T>
struct KeyStep {
    const Head<T>& head;
    const Steps& steps;
    const Scratch<T>& s;
    int64_t begin, rows, first, span;

    static constexpr int64_t per_step = sizeof(T) == 2 ? 2 : 1;
    int64_t dim() const { return head.args.cache.head_dim; }
    int count(int64_t r) const { return int(std::min<int64_t>(tile_rows, rows - r)); }
    // Blocks that the tile of rows from r on looks at: those of its last row.
    int64_t blocks(int64_t r) const {
        const int64_t keys = std::min(span, head.keys_of(begin + r + count(r) - 1) - first);
        return keys <= 0 ? 0 : (keys + cache_block - 1) / cache_block;
    }

    int64_t all_blocks() const { return blocks((rows - 1) / tile_rows * tile_rows); }

    bool coded() const { return head.args.cache.dtype == DType::i8; }
    T* widened(bool values, int64_t b) const {
        return s.widened + ((values ? span_blocks : 0) + b) * cache_block * dim();
    }
    const T* block(bool values, int64_t b) const {
        const CacheView& c = head.args.cache;
        return coded() ? widened(values, b)
                       : static_cast<const T*>(
                             head.block(values ? c.values : c.keys, first / cache_block + b));
    }
    void widen() const {
        const CacheView& c = head.args.cache;
        for (const bool values : {false, true})
            for (int64_t b = 0; b < all_blocks(); ++b)
                widen_block(head.block(values ? c.values : c.keys, first / cache_block + b), dim(),
                            values, widened(values, b));
    }

    // A few blocks of keys stay in the first-level cache while all rows pass by.
    void score() const {
        const int64_t all = all_blocks();
        for (int64_t b = 0; b < all; b += tile_strips) {
            const T* const start = block(false, b);
            const void* const segment = start;
            int64_t offset[tile_strips];
            for (int i = 0; i < tile_strips && b + i < all; ++i)
                offset[i] = (block(false, b + i) - start) * int64_t(sizeof(T));
            for (int64_t r = 0; r < rows; r += tile_rows) {
                const int strips = int(std::min<int64_t>(tile_strips, blocks(r) - b));
                if (strips <= 0) continue;
                steps.tile(count(r),
                           {s.queries + r * dim(), dim(), &segment, 1, dim() / per_step,
                            cache_block * per_step * int64_t(sizeof(T)), offset, strips,
                            s.scores + r * most_keys + b * cache_block, most_keys, false});
            }
        }
    }

    void soften(int64_t r) const {
        const int64_t padded = blocks(r) * cache_block;
        for (int64_t i = r; i < r + count(r); ++i) {
            const int64_t keys =
                std::clamp<int64_t>(head.keys_of(begin + i) - first, 0, std::min(span, padded));
            T* weights = s.weights + i * most_keys;
            if (keys == 0)
                std::memset(static_cast<void*>(weights), 0, padded * sizeof(T));
            else
                steps.soften(s.scores + i * most_keys, keys, padded, head.args.scale,
                             {s.maximum + i, s.total + i, s.sums + i * dim(), dim()}, weights);
        }
    }

    void add_values(int64_t r) const {
        const void* values[span_blocks];
        for (int64_t b = 0; b < blocks(r); ++b) values[b] = block(true, b);
        for (int64_t column = 0; column < dim(); column += 16 * tile_strips) {
            int64_t offset[tile_strips];
            const int strips = int(std::min<int64_t>(tile_strips, (dim() - column) / 16));
            for (int i = 0; i < strips; ++i)
                offset[i] = (column + 16 * i) * per_step * int64_t(sizeof(T));
            steps.tile(count(r), {s.weights + r * most_keys, most_keys, values, blocks(r),
                                  cache_block / per_step, dim() * per_step * int64_t(sizeof(T)),
                                  offset, strips, s.sums + r * dim() + column, dim(), true});
        }
    }

    void run() const {
        if (coded()) widen();
        score();
        for (int64_t r = 0; r < rows; r += tile_rows) {
            if (blocks(r) == 0) continue;
            soften(r);
            add_values(r);
        }
    }
};

template <class T>
static void attend(const Head<T>& head, const Steps& steps, int64_t begin, int64_t end,
                   float* memory) {
    const int64_t dim = head.args.cache.head_dim, used = head.args.q.dim[3], rows = end - begin;
    const Scratch<T> s(memory, dim);
    for (int64_t r = 0; r < rows; ++r) {
        std::memcpy(static_cast<void*>(s.queries + r * dim), head.row(head.args.q, begin + r),
                    used * sizeof(T));
        std::memset(static_cast<void*>(s.queries + r * dim + used), 0, (dim - used) * sizeof(T));
    }
    std::fill_n(s.sums, rows * dim, 0.0f);
    std::fill_n(s.maximum, rows, -std::numeric_limits<float>::infinity());
    std::fill_n(s.total, rows, 0.0f);
    const int64_t keys = head.keys_of(end - 1);
    for (int64_t first = 0, span; first < keys; first += span) {
        span = !head.args.causal && keys - first <= most_keys ? most_keys : key_span;
        KeyStep<T>{head, steps, s, begin, rows, first, span}.run();
    }
    for (int64_t r = 0; r < rows; ++r) {
        T* out = head.row(head.args.out, begin + r);
        const V by = hn::Set(D(), 1.0f / s.total[r]);
        int64_t i = 0;
        for (; i + lanes <= used; i += lanes)
            store(hn::Mul(load(s.sums + r * dim + i), by), out + i);
        if (i < used) store_part(hn::Mul(load(s.sums + r * dim + i), by), out + i, used - i);
    }
}

template <class T>
static void attention_of(const AttentionArgs& args, const Steps& steps, ThreadPool& pool) {
    const int64_t kv_heads = args.q.dim[1], group = args.q.dim[2];
    const int64_t scratch = attention_scratch(args.cache);
    int64_t tasks = 0;
    for (int i = 0; i < args.span_count; ++i)
        tasks += kv_heads * ((args.spans[i].query_count * group + row_span - 1) / row_span);
    pool.parallel_for(tasks, 1, [&](int64_t first, int64_t last, int worker) {
        for (int64_t task = first; task < last; ++task) {
            int64_t rest = task;
            const AttentionSpan* span = args.spans;
            int64_t parts;
            for (;; ++span, rest -= kv_heads * parts) {
                parts = (span->query_count * group + row_span - 1) / row_span;
                if (rest < kv_heads * parts) break;
            }
            // Rows of one head follow each other: its keys and values stay in the cache.
            const Head<T> head{args, *span, rest / parts};
            const int64_t begin = rest % parts * row_span;
            attend(head, steps, begin, std::min(begin + row_span, span->query_count * group),
                   args.scratch + worker * scratch);
        }
    });
}

static void attention_plain(const AttentionArgs& args, ThreadPool& pool) {
    const TileKernel tile = tile_kernel(args.q.dtype, args.q.dtype, false);
    args.q.dtype == DType::f32 ? attention_of<float>(args, {tile, soften<float>}, pool)
                               : attention_of<bf16_t>(args, {tile, soften<bf16_t>}, pool);
}
static void attention_pairs(const AttentionArgs& args, ThreadPool& pool) {
    if (args.q.dtype == DType::f32) return attention_plain(args, pool);
    attention_of<bf16_t>(args, {tile_bf16_pairs, soften_bf16_pairs}, pool);
}

static void fill(Kernels& table, bool pairs) {
    table.attention = pairs ? attention_pairs : attention_plain;
}

}  // namespace HWY_NAMESPACE
}  // namespace internvl
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace internvl {

int64_t attention_scratch(const CacheView& cache) {
    const int64_t widened = cache.dtype == DType::i8 ? 2 * most_keys * cache.head_dim : 0;
    const int64_t floats = row_span * (2 * most_keys + 2 * cache.head_dim + 2) + widened;
    return (floats + 15) / 16 * 16;
}

void fill_attention(Kernels& table, Isa isa) {
    INTERNVL_PICK(isa, fill, table, isa == Isa::avx512_bf16 && tile_bf16_pairs);
}

}  // namespace internvl
#endif
