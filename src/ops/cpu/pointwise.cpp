// Gated activation, rotary embedding, converting copies; gradients of the first and the last.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/pointwise.cpp"
#include "ops/cpu/target.h"
//
#include <hwy/foreach_target.h>

#include <cstring>

#include "ops/cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace internvl {
namespace HWY_NAMESPACE {

template <class T>
static void swiglu_row(const T* gate, const T* up, T* y, int64_t width) {
    const auto value = [](V g, V u) { return hn::Mul(hn::Mul(g, sigmoid_of(g)), u); };
    int64_t i = 0;
    for (; i + lanes <= width; i += lanes) store(value(load(gate + i), load(up + i)), y + i);
    if (const int64_t left = width - i; left > 0)
        store_part(value(load_part(gate + i, left), load_part(up + i, left)), y + i, left);
}

template <class T>
static void swiglu_of(const View& x, const View& y, ThreadPool& pool) {
    const int64_t width = y.dim[1];
    pool.parallel_for(y.dim[0], 8, [&](int64_t begin, int64_t end, int) {
        for (int64_t row = begin; row < end; ++row) {
            const T* gate = x.as<T>() + row * x.stride[0];
            swiglu_row(gate, gate + width, y.as<T>() + row * y.stride[0], width);
        }
    });
}

static void swiglu(const View& x, const View& y, ThreadPool& pool) {
    y.dtype == DType::f32 ? swiglu_of<float>(x, y, pool) : swiglu_of<bf16_t>(x, y, pool);
}

// y = g * s * u with s = sigmoid(g): dg = dy * u * s * (1 + g * (1 - s)), du = dy * g * s.
template <class T>
static void swiglu_backward_row(const T* gate, const float* dy, float* dgate, int64_t width) {
    const V one = hn::Set(D(), 1.0f);
    for (int64_t i = 0; i < width; i += lanes) {
        const int64_t n = HWY_MIN(lanes, width - i);
        const V g = load_upto(gate + i, n), u = load_upto(gate + width + i, n);
        const V d = load_upto(dy + i, n), s = sigmoid_of(g), ds = hn::Mul(d, s);
        const V slope = hn::MulAdd(g, hn::Sub(one, s), one);
        float* const dup = dgate + width;
        store_upto(hn::MulAdd(hn::Mul(ds, u), slope, load_upto(dgate + i, n)), dgate + i, n);
        store_upto(hn::MulAdd(ds, g, load_upto(dup + i, n)), dup + i, n);
    }
}

template <class T>
static void swiglu_backward_of(const View& x, const View& dy, const View& dx, ThreadPool& pool) {
    pool.parallel_for(dy.dim[0], 8, [&](int64_t begin, int64_t end, int) {
        for (int64_t row = begin; row < end; ++row)
            swiglu_backward_row(x.as<T>() + row * x.stride[0], dy.as<float>() + row * dy.stride[0],
                                dx.as<float>() + row * dx.stride[0], dy.dim[1]);
    });
}

static void swiglu_backward(const View& x, const View& dy, const View& dx, ThreadPool& pool) {
    x.dtype == DType::f32 ? swiglu_backward_of<float>(x, dy, dx, pool)
                          : swiglu_backward_of<bf16_t>(x, dy, dx, pool);
}

// (a, b) -> (a cos - b sin, b cos + a sin) for the pairs (i, i + half) of one head.
template <class T>
static void rotate_head(T* x, const float* cos, const float* sin, int64_t half) {
    int64_t i = 0;
    for (; i + lanes <= half; i += lanes) {
        const V a = load(x + i), b = load(x + half + i), c = load(cos + i), s = load(sin + i);
        store(hn::Sub(hn::Mul(a, c), hn::Mul(b, s)), x + i);
        store(hn::Add(hn::Mul(b, c), hn::Mul(a, s)), x + half + i);
    }
    if (const int64_t left = half - i; left > 0) {
        const V a = load_part(x + i, left), b = load_part(x + half + i, left);
        const V c = load_part(cos + i, left), s = load_part(sin + i, left);
        store_part(hn::Sub(hn::Mul(a, c), hn::Mul(b, s)), x + i, left);
        store_part(hn::Add(hn::Mul(b, c), hn::Mul(a, s)), x + half + i, left);
    }
}

template <class T>
static void rope_of(const RopeArgs& a, ThreadPool& pool) {
    const int64_t half = a.x.dim[3] / 2;
    pool.parallel_for(a.x.dim[0], 32, [&](int64_t begin, int64_t end, int) {
        for (int64_t token = begin; token < end; ++token)
            for (int64_t group = 0; group < a.x.dim[1]; ++group)
                for (int64_t head = 0; head < a.x.dim[2]; ++head)
                    rotate_head(a.x.as<T>() + token * a.x.stride[0] + group * a.x.stride[1] +
                                    head * a.x.stride[2],
                                a.cos + token * half, a.sin + token * half, half);
    });
}

static void rope(const RopeArgs& a, ThreadPool& pool) {
    a.x.dtype == DType::f32 ? rope_of<float>(a, pool) : rope_of<bf16_t>(a, pool);
}

template <class From, class To>
static void copy_row(void* from, void* to, int64_t count) {
    const From* x = static_cast<From*>(from);
    To* y = static_cast<To*>(to);
    if constexpr (std::is_same_v<From, To>) {
        std::memcpy(static_cast<void*>(y), x, count * sizeof(To));
        return;
    }
    int64_t i = 0;
    for (; i + lanes <= count; i += lanes) store(load(x + i), y + i);
    if (i < count) store_part(load_part(x + i, count - i), y + i, count - i);
}

using CopyRow = void (*)(void* from, void* to, int64_t count);

template <class From>
static CopyRow copy_to(DType to) {
    return to == DType::f32 ? copy_row<From, float> : copy_row<From, bf16_t>;
}

// row(source, target, count) for each run of the last dimension; strides of both in elements.
static void each_run(const View& from, const View& to, CopyRow row, ThreadPool& pool) {
    const int last = from.rank - 1;
    int64_t rows = 1;
    for (int d = 0; d < last; ++d) rows *= from.dim[d];
    pool.parallel_for(rows, 64, [&](int64_t begin, int64_t end, int) {
        for (int64_t r = begin; r < end; ++r) {
            int64_t source = 0, target = 0, rest = r;
            for (int d = last; d-- > 0; rest /= from.dim[d]) {
                source += rest % from.dim[d] * from.stride[d];
                target += rest % from.dim[d] * to.stride[d];
            }
            row(from.at(source), to.at(target), from.dim[last]);
        }
    });
}

static void copy(const View& from, const View& to, ThreadPool& pool) {
    const CopyRow row = from.dtype == DType::f32    ? copy_to<float>(to.dtype)
                        : from.dtype == DType::bf16 ? copy_to<bf16_t>(to.dtype)
                                                    : copy_to<f16_t>(to.dtype);
    each_run(from, to, row, pool);
}

static void hand_back_row(void* from, void* to, int64_t count) {
    float* const x = static_cast<float*>(from);
    float* const y = static_cast<float*>(to);
    for (int64_t i = 0; y && i < count; i += lanes) {
        const int64_t n = HWY_MIN(lanes, count - i);
        store_upto(hn::Add(load_upto(x + i, n), load_upto(y + i, n)), y + i, n);
    }
    std::memset(x, 0, count * sizeof(float));
}

static void hand_back(const View& from, const View& to, ThreadPool& pool) {
    each_run(from, to, hand_back_row, pool);
}

static void fill(Kernels& table) {
    table.swiglu = swiglu;
    table.rope = rope;
    table.copy = copy;
    table.swiglu_backward = swiglu_backward;
    table.hand_back = hand_back;
}

}  // namespace HWY_NAMESPACE
}  // namespace internvl
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace internvl {
void fill_pointwise(Kernels& table, Isa isa) {
    INTERNVL_PICK(isa, fill, table);
}
}  // namespace internvl
#endif
