// Gradients of attention within runs of rows. Probabilities are not kept by the forward pass: a
// first round over stripes of query rows finds them again, and with them the gradients of queries;
// a second one over blocks of keys computes their transposes from what the first noted for each row
// (logarithm of the sum, mean gradient) and sums the gradients of keys and values. So every sum has
// one owner and one order. All of it in fp32.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/attention_backward.cpp"
#include "ops/cpu/target.h"
//
#include <hwy/foreach_target.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "ops/cpu/tile-inl.h"

namespace internvl {
#ifndef INTERNVL_ATTENTION_BACKWARD_SIZES
#define INTERNVL_ATTENTION_BACKWARD_SIZES
static constexpr int64_t strip = 16;  // columns of a tile's strip; rows come in whole ones
static constexpr int64_t stripe = 8 * tile_rows;  // rows of a task
static constexpr int64_t row_chunk = 256;         // query rows that a block of keys meets at a time

static int64_t whole_strips(int64_t n) {
    return (n + strip - 1) / strip * strip;
}

// Where the parts of the scratch memory lie. Rows of a sequence and key/value head follow each
// other, query i and head g of its group being row i * group + g.
struct BackwardLayout {
    int64_t dim, group, kv_heads;
    int64_t query_rows = 0, key_rows = 0;  // of one head, all spans, in whole strips
    int64_t longest = 0;                   // keys of a span

    explicit BackwardLayout(const AttentionBackwardArgs& a)
        : dim(padded_head(a.q.dim[3])), group(a.q.dim[2]), kv_heads(a.q.dim[1]) {
        for (int i = 0; i < a.span_count; ++i) {
            query_rows += whole_strips(a.spans[i].query_count * group);
            key_rows += whole_strips(a.spans[i].query_count);
            longest = std::max(longest, whole_strips(a.spans[i].query_count));
        }
    }
    int64_t query_floats() const { return kv_heads * query_rows * dim; }
    int64_t key_floats() const { return kv_heads * key_rows * dim; }
    int64_t task_floats() const { return 2 * stripe * (std::max(longest, row_chunk) + dim); }
    int64_t floats(int threads) const {
        return 4 * query_floats() + 4 * key_floats() + 2 * kv_heads * query_rows +
               threads * task_floats();
    }
};
#endif
}  // namespace internvl

HWY_BEFORE_NAMESPACE();
namespace internvl {
namespace HWY_NAMESPACE {

// A matrix of one sequence and head in both orders that products want.
struct Matrix {
    float* rows;     // [rows, dim]
    float* columns;  // [rows/16][dim][16]
};

// One sequence and key/value head: `count` tokens.
struct Part {
    const AttentionBackwardArgs& args;
    int64_t first, count, kv_head, dim, group;
    Matrix q, dout, k, v;
    float *log_sum, *mean;  // of each query row

    int64_t query_rows() const { return count * group; }
    int64_t keys_of(int64_t row) const { return args.causal ? row / group + 1 : count; }
    int64_t first_row_of(int64_t key) const { return args.causal ? key * group : 0; }
    template <class T>
    T* query(const View& x, int64_t row) const {
        return x.as<T>() + (first + row / group) * x.stride[0] + kv_head * x.stride[1] +
               row % group * x.stride[2];
    }
    template <class T>
    T* key(const View& x, int64_t row) const {
        return x.as<T>() + (first + row) * x.stride[0] + kv_head * x.stride[1];
    }
};

// Both orders of a matrix whose row r is at(r), `used` values; zero around them.
template <class At>
static void lay_out(const Matrix& m, int64_t rows, int64_t used, int64_t dim, At at) {
    for (int64_t r = 0; r < whole_strips(rows); ++r) {
        float* row = m.rows + r * dim;
        std::fill_n(row, dim, 0.0f);
        if (r < rows) {
            const auto* from = at(r);
            for (int64_t i = 0; i < used; ++i) row[i] = to_float(from[i]);
        }
        float* column = m.columns + r / strip * strip * dim + r % strip;
        for (int64_t i = 0; i < dim; ++i) column[i * strip] = row[i];
    }
}

template <class T>
static void lay_out_part(const Part& p) {
    const AttentionBackwardArgs& a = p.args;
    const int64_t used = a.q.dim[3];
    lay_out(p.q, p.query_rows(), used, p.dim, [&](int64_t r) { return p.query<T>(a.q, r); });
    lay_out(p.dout, p.query_rows(), used, p.dim,
            [&](int64_t r) { return p.query<float>(a.dout, r); });
    lay_out(p.k, p.count, used, p.dim, [&](int64_t r) { return p.key<T>(a.k, r); });
    lay_out(p.v, p.count, used, p.dim, [&](int64_t r) { return p.key<T>(a.v, r); });
}

// A right-hand side: strips of 16 columns, `steps` of them over the inner dimension.
struct RightSide {
    const float* at;
    int64_t steps, step, strips, strip_step;  // distances in floats
};

// Rows of a matrix as columns of the right-hand side, the head being the inner dimension; and as
// they are, rows being the inner dimension.
static RightSide by_columns(const Matrix& m, int64_t begin, int64_t rows, int64_t dim) {
    return {m.columns + begin * dim, dim, strip, rows / strip, strip * dim};
}
static RightSide by_rows(const Matrix& m, int64_t begin, int64_t rows, int64_t dim) {
    return {m.rows + begin * dim, rows, dim, dim / strip, strip};
}

static void multiply(const float* a, int64_t a_stride, int64_t rows, const RightSide& b, float* out,
                     int64_t out_stride, bool accumulate) {
    const TileKernel tile = tile_kernel(DType::f32, DType::f32, false);
    for (int64_t s = 0; s < b.strips; s += tile_strips) {
        const void* const segment = b.at + s * b.strip_step;
        int64_t offset[tile_strips];
        for (int i = 0; i < tile_strips; ++i) offset[i] = i * b.strip_step * int64_t(sizeof(float));
        const int strips = int(HWY_MIN(int64_t(tile_strips), b.strips - s));
        for (int64_t r = 0; r < rows; r += tile_rows)
            tile(int(HWY_MIN(int64_t(tile_rows), rows - r)),
                 {a + r * a_stride, a_stride, &segment, 1, b.steps, b.step * int64_t(sizeof(float)),
                  offset, strips, out + r * out_stride + s * strip, out_stride, accumulate});
    }
}

// Scores of a row and the gradients of its probabilities p -> the gradients of the scores, in place
// of these; p * (dp - sum(p * dp)) * scale.
static void soften_backward(const Part& p, int64_t row, float* scores, const float* dp,
                            int64_t padded) {
    const D d;
    const int64_t keys = p.keys_of(row);
    const V scale = hn::Set(d, p.args.scale);
    float most = scores[0];
    for (int64_t i = 1; i < keys; ++i) most = HWY_MAX(most, scores[i]);
    V sum = hn::Zero(d), along = hn::Zero(d);
    for (int64_t i = 0; i < keys; i += lanes) {
        const int64_t n = HWY_MIN(lanes, keys - i);
        const V e = exp_of(hn::Mul(hn::Sub(load_upto(scores + i, n), hn::Set(d, most)), scale));
        store_upto(e, scores + i, n);
        const V real = load_upto(scores + i, n);  // zero behind the keys
        sum = hn::Add(sum, real);
        along = hn::MulAdd(real, load_upto(dp + i, n), along);
    }
    const float total = hn::GetLane(hn::SumOfLanes(d, sum));
    const float mean = hn::GetLane(hn::SumOfLanes(d, along)) / total;
    p.log_sum[row] = most * p.args.scale + std::log(total);
    p.mean[row] = mean;
    const V by = hn::Set(d, p.args.scale / total);
    for (int64_t i = 0; i < keys; i += lanes) {
        const int64_t n = HWY_MIN(lanes, keys - i);
        const V slope = hn::Sub(load_upto(dp + i, n), hn::Set(d, mean));
        store_upto(hn::Mul(hn::Mul(load_upto(scores + i, n), by), slope), scores + i, n);
    }
    std::fill(scores + keys, scores + padded, 0.0f);
}

static void add_row(const float* from, float* to, int64_t count) {
    for (int64_t i = 0; i < count; i += lanes) {
        const int64_t n = HWY_MIN(lanes, count - i);
        store_upto(hn::Add(load_upto(from + i, n), load_upto(to + i, n)), to + i, n);
    }
}

// Query rows [begin, end).
static void query_stripe(const Part& p, int64_t begin, int64_t end, float* memory) {
    const int64_t keys = whole_strips(p.keys_of(end - 1)), rows = end - begin, dim = p.dim;
    float *scores = memory, *dp = scores + stripe * keys, *dq = dp + stripe * keys;
    multiply(p.q.rows + begin * dim, dim, rows, by_columns(p.k, 0, keys, dim), scores, keys, false);
    multiply(p.dout.rows + begin * dim, dim, rows, by_columns(p.v, 0, keys, dim), dp, keys, false);
    for (int64_t r = 0; r < rows; ++r)
        soften_backward(p, begin + r, scores + r * keys, dp + r * keys, keys);
    multiply(scores, keys, rows, by_rows(p.k, 0, keys, dim), dq, dim, false);
    for (int64_t r = 0; r < rows; ++r)
        add_row(dq + r * dim, p.query<float>(p.args.dq, begin + r), p.args.q.dim[3]);
}

// Transposed scores of one key and query rows [first, first + count), and gradients of
// probabilities -> probabilities, and gradients of scores.
static void soften_column(const Part& p, int64_t key, int64_t first, int64_t count, float* scores,
                          float* dp) {
    const D d;
    const V scale = hn::Set(d, p.args.scale);
    const int64_t begin = std::clamp<int64_t>(p.first_row_of(key) - first, 0, count);
    const int64_t end = std::clamp<int64_t>(p.query_rows() - first, begin, count);
    std::fill(scores, scores + begin, 0.0f);
    std::fill(dp, dp + begin, 0.0f);
    for (int64_t i = begin; i < end; i += lanes) {
        const int64_t n = HWY_MIN(lanes, end - i);
        const V log_sum = load_upto(p.log_sum + first + i, n);
        const V mean = load_upto(p.mean + first + i, n);
        const V share = exp_of(hn::Sub(hn::Mul(load_upto(scores + i, n), scale), log_sum));
        const V slope = hn::Mul(hn::Sub(load_upto(dp + i, n), mean), scale);
        store_upto(share, scores + i, n);
        store_upto(hn::Mul(share, slope), dp + i, n);
    }
    std::fill(scores + end, scores + count, 0.0f);
    std::fill(dp + end, dp + count, 0.0f);
}

// Keys [begin, end).
static void key_block(const Part& p, int64_t begin, int64_t end, float* memory) {
    const int64_t keys = end - begin, dim = p.dim, all = whole_strips(p.query_rows());
    float *shares = memory, *slopes = shares + stripe * row_chunk;
    float *dk = slopes + stripe * row_chunk, *dv = dk + stripe * dim;
    std::fill_n(dk, 2 * stripe * dim, 0.0f);
    for (int64_t row = p.first_row_of(begin) / strip * strip; row < all; row += row_chunk) {
        const int64_t rows = std::min(row_chunk, all - row);
        multiply(p.k.rows + begin * dim, dim, keys, by_columns(p.q, row, rows, dim), shares,
                 row_chunk, false);
        multiply(p.v.rows + begin * dim, dim, keys, by_columns(p.dout, row, rows, dim), slopes,
                 row_chunk, false);
        for (int64_t key = 0; key < keys; ++key)
            soften_column(p, begin + key, row, rows, shares + key * row_chunk,
                          slopes + key * row_chunk);
        multiply(shares, row_chunk, keys, by_rows(p.dout, row, rows, dim), dv, dim, true);
        multiply(slopes, row_chunk, keys, by_rows(p.q, row, rows, dim), dk, dim, true);
    }
    for (int64_t key = 0; key < keys; ++key) {
        add_row(dk + key * dim, p.key<float>(p.args.dk, begin + key), p.args.q.dim[3]);
        add_row(dv + key * dim, p.key<float>(p.args.dv, begin + key), p.args.q.dim[3]);
    }
}

// Scratch memory, cut.
struct Memory {
    const AttentionBackwardArgs& args;
    BackwardLayout layout;
    float* start;

    explicit Memory(const AttentionBackwardArgs& a) : args(a), layout(a), start(a.scratch) {}

    Part part(int span, int64_t kv_head) const {
        const BackwardLayout& l = layout;
        int64_t query = kv_head * l.query_rows, key = kv_head * l.key_rows;
        for (int i = 0; i < span; ++i) {
            query += whole_strips(args.spans[i].query_count * l.group);
            key += whole_strips(args.spans[i].query_count);
        }
        float* next = start;
        const auto matrix = [&](int64_t all, int64_t row) {
            const Matrix m{next + row * l.dim, next + all + row * l.dim};
            next += 2 * all;
            return m;
        };
        Part p{args,
               args.spans[span].query_begin,
               args.spans[span].query_count,
               kv_head,
               l.dim,
               l.group,
               matrix(l.query_floats(), query),
               matrix(l.query_floats(), query),
               matrix(l.key_floats(), key),
               matrix(l.key_floats(), key),
               nullptr,
               nullptr};
        p.log_sum = next + query;
        p.mean = next + l.kv_heads * l.query_rows + query;
        return p;
    }
    float* task(int worker) const {
        return start + layout.floats(0) + worker * layout.task_floats();
    }

    // body(part, begin, end, worker) for runs of at most `size` of rows_of(part) rows.
    template <class Rows, class Body>
    void each(ThreadPool& pool, int64_t size, Rows rows_of, Body body) const {
        int64_t tasks = 0;
        const auto count = [&](int span) { return (rows_of(part(span, 0)) + size - 1) / size; };
        for (int i = 0; i < args.span_count; ++i) tasks += layout.kv_heads * count(i);
        pool.parallel_for(tasks, 1, [&](int64_t task_index, int64_t, int worker) {
            int span = 0;
            for (; task_index >= layout.kv_heads * count(span); ++span)
                task_index -= layout.kv_heads * count(span);
            const Part p = part(span, task_index / count(span));
            const int64_t begin = task_index % count(span) * size;
            body(p, begin, std::min(begin + size, rows_of(p)), task(worker));
        });
    }
};

static void attention_backward(const AttentionBackwardArgs& a, ThreadPool& pool) {
    const Memory memory(a);
    const auto prepare = a.q.dtype == DType::f32 ? lay_out_part<float> : lay_out_part<bf16_t>;
    memory.each(
        pool, 1, [](const Part&) { return int64_t(1); },
        [&](const Part& p, int64_t, int64_t, float*) { prepare(p); });
    memory.each(
        pool, stripe, [](const Part& p) { return p.query_rows(); }, query_stripe);
    memory.each(
        pool, stripe, [](const Part& p) { return p.count; }, key_block);
}

static void fill(Kernels& table) {
    table.attention_backward = attention_backward;
}

}  // namespace HWY_NAMESPACE
}  // namespace internvl
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace internvl {

int64_t attention_backward_scratch(const AttentionBackwardArgs& args, int threads) {
    return BackwardLayout(args).floats(threads);
}

void fill_attention_backward(Kernels& table, Isa isa) {
    INTERNVL_PICK(isa, fill, table);
}

}  // namespace internvl
#endif
