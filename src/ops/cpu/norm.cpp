// Layer norm and RMS norm over rows.
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

template <class T, bool centred>
static void norm_rows(const NormArgs& a, int64_t begin, int64_t end) {
    const float width = float(a.x.dim[1]);
    for (int64_t row = begin; row < end; ++row) {
        const T* x = a.x.as<T>() + row * a.x.stride[0];
        float mean = 0;
        if (centred) mean = row_sum(x, a.x.dim[1], [](V v) { return v; }) / width;
        const V m = hn::Set(D(), mean);
        const float squares = row_sum(x, a.x.dim[1], [m](V v) {
            const V c = hn::Sub(v, m);
            return hn::Mul(c, c);
        });
        scale_row(a, x, a.y.as<T>() + row * a.y.stride[0], mean,
                  1.0f / std::sqrt(squares / width + a.epsilon));
    }
}

template <bool centred>
static void norm(const NormArgs& a, ThreadPool& pool) {
    const auto rows =
        a.x.dtype == DType::f32 ? norm_rows<float, centred> : norm_rows<bf16_t, centred>;
    pool.parallel_for(a.x.dim[0], 32,
                      [&](int64_t begin, int64_t end, int) { rows(a, begin, end); });
}

static void fill(Kernels& table) {
    table.layer_norm = norm<true>;
    table.rms_norm = norm<false>;
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
