// The end of a product on its own, residual + scale * activation(z), where its sums were stored;
// its gradients, and sums of columns.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/finish_rows.cpp"
#include "ops/cpu/target.h"
//
#include <hwy/foreach_target.h>

#include "ops/cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace internvl {
namespace HWY_NAMESPACE {

// f(column, how many) over the columns [begin, end), a vector at a time.
template <class F>
static HWY_INLINE void each(int64_t begin, int64_t end, F f) {
    for (int64_t i = begin; i < end; i += lanes) f(i, HWY_MIN(lanes, end - i));
}

template <class T>
static T* row_of(const View& v, int64_t row) {
    return v.as<T>() + row * v.stride[0];
}

static HWY_INLINE V activated(Activation a, V z) {
    return a == Activation::gelu ? gelu_of(z) : z;
}

template <class T>
static void finish_rows_of(const FinishRowsArgs& a, ThreadPool& pool) {
    pool.parallel_for(a.z.dim[0], 8, [&](int64_t first, int64_t last, int) {
        for (int64_t row = first; row < last; ++row)
            each(0, a.z.dim[1], [&](int64_t i, int64_t n) {
                V v = activated(a.activation, load_upto(row_of<float>(a.z, row) + i, n));
                if (a.scale) v = hn::Mul(v, load_upto(a.scale + i, n));
                if (a.residual) v = hn::Add(v, load_upto(row_of<T>(a.residual, row) + i, n));
                store_upto(v, row_of<T>(a.out, row) + i, n);
            });
    });
}

static void finish_rows(const FinishRowsArgs& a, ThreadPool& pool) {
    a.out.dtype == DType::f32 ? finish_rows_of<float>(a, pool) : finish_rows_of<bf16_t>(a, pool);
}

static void finish_rows_backward(const FinishRowsBackwardArgs& a, ThreadPool& pool) {
    const int64_t rows = a.dout.dim[0], columns = a.dout.dim[1];
    if (a.dscale)
        pool.parallel_for(columns, 64, [&](int64_t begin, int64_t end, int) {
            for (int64_t row = 0; row < rows; ++row)
                each(begin, end, [&](int64_t i, int64_t n) {
                    const V d = load_upto(row_of<float>(a.dout, row) + i, n);
                    const V y = activated(a.activation, load_upto(row_of<float>(a.z, row) + i, n));
                    store_upto(hn::MulAdd(d, y, load_upto(a.dscale + i, n)), a.dscale + i, n);
                });
        });
    pool.parallel_for(rows, 8, [&](int64_t first, int64_t last, int) {
        for (int64_t row = first; row < last; ++row)
            each(0, columns, [&](int64_t i, int64_t n) {
                V d = load_upto(row_of<float>(a.dout, row) + i, n);
                if (a.scale) d = hn::Mul(d, load_upto(a.scale + i, n));
                if (a.activation == Activation::gelu)
                    d = hn::Mul(d, gelu_slope_of(load_upto(row_of<float>(a.z, row) + i, n)));
                store_upto(d, row_of<float>(a.dz, row) + i, n);
            });
    });
}

static void add_column_sums(const View& x, float* sums, ThreadPool& pool) {
    pool.parallel_for(x.dim[1], 64, [&](int64_t begin, int64_t end, int) {
        for (int64_t row = 0; row < x.dim[0]; ++row)
            each(begin, end, [&](int64_t i, int64_t n) {
                const V v = load_upto(row_of<float>(x, row) + i, n);
                store_upto(hn::Add(v, load_upto(sums + i, n)), sums + i, n);
            });
    });
}

static void fill(Kernels& table) {
    table.finish_rows = finish_rows;
    table.finish_rows_backward = finish_rows_backward;
    table.add_column_sums = add_column_sums;
}

}  // namespace HWY_NAMESPACE
}  // namespace internvl
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace internvl {
void fill_finish_rows(Kernels& table, Isa isa) {
    INTERNVL_PICK(isa, fill, table);
}
}  // namespace internvl
#endif
