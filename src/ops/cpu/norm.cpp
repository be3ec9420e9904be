// Layer norm and RMS norm over rows, and their gradients.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/norm.cpp"
#include "ops/cpu/target.h"
//
#include <hwy/foreach_target.h>

#include <cmath>

#include "ops/cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace internvl {
namespace HWY_NAMESPACE {

// Sum of f(x) over a row: vector lanes first, then across them, then the tail in order.
template <class T, class F>
static HWY_INLINE float row_sum(const T* x, int64_t width, F f) {
    const D d;
    V sum = hn::Zero(d);
    int64_t i = 0;
    for (; i + lanes <= width; i += lanes) sum = hn::Add(sum, f(load(x + i)));
    if (i < width) {
        HWY_ALIGN float part[lanes] = {};
        store(f(load_part(x + i, width - i)), part);
        for (int64_t j = width - i; j < lanes; ++j) part[j] = 0;
        sum = hn::Add(sum, load(part));
    }
    return hn::GetLane(hn::SumOfLanes(d, sum));
}

// y = (x - mean) * factor * weight + bias
template <class T>
static void scale_row(const NormArgs& a, const T* x, T* y, float mean, float factor) {
    const V m = hn::Set(D(), mean), by = hn::Set(D(), factor);
    const int64_t width = a.x.dim[1];
    const auto value = [&](V v, V weight) { return hn::Mul(hn::Mul(hn::Sub(v, m), by), weight); };
    int64_t i = 0;
    for (; i + lanes <= width; i += lanes) {
        V v = value(load(x + i), load(a.weight + i));
        if (a.bias) v = hn::Add(v, load(a.bias + i));
        store(v, y + i);
    }
    if (const int64_t left = width - i; left > 0) {
        V v = value(load_part(x + i, left), load_part(a.weight + i, left));
        if (a.bias) v = hn::Add(v, load_part(a.bias + i, left));
        store_part(v, y + i, left);
    }
}

// What a row is centred by and then multiplied with.
struct Moments {
    float mean, factor;
};

template <bool centred, class T>
static HWY_INLINE Moments moments_of(const T* x, int64_t count, float epsilon) {
    const float width = float(count);
    float mean = 0;
    if (centred) mean = row_sum(x, count, [](V v) { return v; }) / width;
    const V m = hn::Set(D(), mean);
    const float squares = row_sum(x, count, [m](V v) {
        const V c = hn::Sub(v, m);
        return hn::Mul(c, c);
    });
    return {mean, 1.0f / std::sqrt(squares / width + epsilon)};
}

template <class T, bool centred>
static void norm_rows(const NormArgs& a, int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; ++row) {
        const T* x = a.x.as<T>() + row * a.x.stride[0];
        const Moments m = moments_of<centred>(x, a.x.dim[1], a.epsilon);
        scale_row(a, x, a.y.as<T>() + row * a.y.stride[0], m.mean, m.factor);
    }
}

template <bool centred>
static void norm(const NormArgs& a, ThreadPool& pool) {
    const auto rows =
        a.x.dtype == DType::f32 ? norm_rows<float, centred> : norm_rows<bf16_t, centred>;
    pool.parallel_for(a.x.dim[0], 32,
                      [&](int64_t begin, int64_t end, int) { rows(a, begin, end); });
}

template <class T>
struct RowBackward {
    const NormBackwardArgs& a;
    const T* x;
    const float* dy;
    V mean, factor;

    RowBackward(const NormBackwardArgs& args, int64_t row)
        : a(args),
          x(args.x.as<T>() + row * args.x.stride[0]),
          dy(args.dy.as<float>() + row * args.dy.stride[0]),
          mean(hn::Set(D(), args.moments[2 * row])),
          factor(hn::Set(D(), args.moments[2 * row + 1])) {}

    // Calls f(column, how many) for whole vectors, then for the rest.
    template <class F>
    HWY_INLINE void each(int64_t begin, int64_t end, F f) const {
        for (int64_t i = begin; i < end; i += lanes) f(i, HWY_MIN(lanes, end - i));
    }
    HWY_INLINE V normed(int64_t i, int64_t n) const {
        return hn::Mul(hn::Sub(load_upto(x + i, n), mean), factor);
    }
    // The gradient of the normed value.
    HWY_INLINE V inner(int64_t i, int64_t n) const {
        return hn::Mul(load_upto(dy + i, n), load_upto(a.weight + i, n));
    }
};

// dx = factor * (g - mean(g) - normed * mean(g * normed)), g being dy * weight; without a centre
// the first mean is left out.
template <class T, bool centred>
static void backward_row(const NormBackwardArgs& a, int64_t row) {
    const RowBackward<T> r(a, row);
    const int64_t width = a.x.dim[1];
    V sum = hn::Zero(D()), along = hn::Zero(D());
    r.each(0, width, [&](int64_t i, int64_t n) {
        const V g = r.inner(i, n);  // zero behind the row
        if (centred) sum = hn::Add(sum, g);
        along = hn::MulAdd(g, r.normed(i, n), along);
    });
    const V by = hn::Set(D(), 1.0f / float(width));
    const V sum_mean = hn::Mul(hn::SumOfLanes(D(), sum), by);
    const V along_mean = hn::Mul(hn::SumOfLanes(D(), along), by);
    float* dx = a.dx.as<float>() + row * a.dx.stride[0];
    r.each(0, width, [&](int64_t i, int64_t n) {
        const V g = hn::Sub(r.inner(i, n), sum_mean);
        V d = hn::Mul(r.factor, hn::NegMulAdd(r.normed(i, n), along_mean, g));
        if (a.add) d = hn::Add(d, load_upto(dx + i, n));
        store_upto(d, dx + i, n);
    });
}

// Columns [begin, end) of the gradients of weight and bias: rows one after the other.
template <class T>
static void backward_columns(const NormBackwardArgs& a, int64_t begin, int64_t end) {
    for (int64_t row = 0; row < a.x.dim[0]; ++row) {
        const RowBackward<T> r(a, row);
        r.each(begin, end, [&](int64_t i, int64_t n) {
            const V dy = load_upto(r.dy + i, n);
            if (a.dweight)
                store_upto(hn::MulAdd(dy, r.normed(i, n), load_upto(a.dweight + i, n)),
                           a.dweight + i, n);
            if (a.dbias) store_upto(hn::Add(dy, load_upto(a.dbias + i, n)), a.dbias + i, n);
        });
    }
}

template <class T, bool centred>
static void norm_backward_of(const NormBackwardArgs& a, ThreadPool& pool) {
    const int64_t rows = a.x.dim[0], width = a.x.dim[1];
    pool.parallel_for(rows, 32, [&](int64_t begin, int64_t end, int) {
        for (int64_t row = begin; row < end; ++row) {
            const Moments m =
                moments_of<centred>(a.x.as<T>() + row * a.x.stride[0], width, a.epsilon);
            a.moments[2 * row] = m.mean;
            a.moments[2 * row + 1] = m.factor;
        }
    });
    if (a.dweight || a.dbias)  // before dx takes the place of dy
        pool.parallel_for(width, 64, [&](int64_t begin, int64_t end, int) {
            backward_columns<T>(a, begin, end);
        });
    if (a.dx)
        pool.parallel_for(rows, 32, [&](int64_t begin, int64_t end, int) {
            for (int64_t row = begin; row < end; ++row) backward_row<T, centred>(a, row);
        });
}

template <bool centred>
static void norm_backward(const NormBackwardArgs& a, ThreadPool& pool) {
    a.x.dtype == DType::f32 ? norm_backward_of<float, centred>(a, pool)
                            : norm_backward_of<bf16_t, centred>(a, pool);
}

static void fill(Kernels& table) {
    table.layer_norm = norm<true>;
    table.rms_norm = norm<false>;
    table.layer_norm_backward = norm_backward<true>;
    table.rms_norm_backward = norm_backward<false>;
}

}  // namespace HWY_NAMESPACE
}  // namespace internvl
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace internvl {
void fill_norm(Kernels& table, Isa isa) {
    INTERNVL_PICK(isa, fill, table);
}
}  // namespace internvl
#endif
