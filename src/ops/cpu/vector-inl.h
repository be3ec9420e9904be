// Shared by the kernel files, compiled once per instruction set: loads and stores that convert, and
// the few functions that vectors need. No include guard of the usual kind: Highway includes this
// again for every target.
#if defined(INTERNVL_OPS_CPU_VECTOR_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef INTERNVL_OPS_CPU_VECTOR_INL_H
#undef INTERNVL_OPS_CPU_VECTOR_INL_H
#else
#define INTERNVL_OPS_CPU_VECTOR_INL_H
#endif

#include <hwy/highway.h>

#include "ops/cpu/target.h"

HWY_BEFORE_NAMESPACE();
namespace internvl {
namespace HWY_NAMESPACE {
namespace hn = hwy::HWY_NAMESPACE;

// Vectors never exceed 16 floats, so a strip of 16 columns is a whole number of them.
using D = hn::CappedTag<float, 16>;
using V = hn::Vec<D>;
using DI = hn::RebindToSigned<D>;
using DU = hn::RebindToUnsigned<D>;
using D16 = hn::Rebind<uint16_t, D>;
static constexpr int64_t lanes = hn::MaxLanes(D());

static HWY_INLINE V load(const float* p) {
    return hn::LoadU(D(), p);
}
static HWY_INLINE V load(const bf16_t* p) {
    const auto wide = hn::PromoteTo(DU(), hn::LoadU(D16(), reinterpret_cast<const uint16_t*>(p)));
    return hn::BitCast(D(), hn::ShiftLeft<16>(wide));
}
static HWY_INLINE V load(const f16_t* p) {
    const hn::Rebind<hwy::float16_t, D> half;
    return hn::PromoteTo(D(), hn::LoadU(half, reinterpret_cast<const hwy::float16_t*>(p)));
}

static HWY_INLINE void store(V v, float* p) {
    hn::StoreU(v, D(), p);
}
// Round to nearest, ties to even, as to_bf16().
static HWY_INLINE void store(V v, bf16_t* p) {
    const auto bits = hn::BitCast(DU(), v);
    const auto odd = hn::And(hn::ShiftRight<16>(bits), hn::Set(DU(), 1));
    const auto rounded = hn::ShiftRight<16>(hn::Add(bits, hn::Add(odd, hn::Set(DU(), 0x7fff))));
    hn::StoreU(hn::DemoteTo(D16(), hn::BitCast(DI(), rounded)), D16(),
               reinterpret_cast<uint16_t*>(p));
}
// The last few elements of a row, by way of a full vector padded with `fill`.
template <class T>
static HWY_INLINE V load_part(const T* p, int64_t count, float fill = 0) {
    HWY_ALIGN float part[lanes];
    for (int64_t i = 0; i < lanes; ++i) part[i] = i < count ? to_float(p[i]) : fill;
    return load(part);
}
template <class T>
static HWY_INLINE void store_part(V v, T* p, int64_t count) {
    T part[lanes];
    store(v, part);
    for (int64_t i = 0; i < count; ++i) p[i] = part[i];
}

// `count` elements, a whole vector or fewer; zero behind them.
template <class T>
static HWY_INLINE V load_upto(const T* p, int64_t count) {
    return count >= lanes ? load(p) : load_part(p, count);
}
template <class T>
static HWY_INLINE void store_upto(V v, T* p, int64_t count) {
    count >= lanes ? store(v, p) : store_part(v, p, count);
}

// e^x within 1 unit of the last place up to 88.37, infinity above; 0 below -87.3 (results would
// be subnormal), including for -infinity.
static HWY_INLINE V exp_of(V x) {
    const D d;
    const V low = hn::Set(d, -87.3f);
    const auto keep = hn::Ge(x, low);
    const V bounded = hn::Min(hn::Max(x, low), hn::Set(d, 88.7f));
    const V n = hn::Round(hn::Mul(bounded, hn::Set(d, 1.44269504088896f)));
    // ln 2 in two parts: the first product is exact.
    V r = hn::NegMulAdd(n, hn::Set(d, 0.693359375f), bounded);
    r = hn::NegMulAdd(n, hn::Set(d, -2.12194440e-4f), r);
    V p = hn::Set(d, 1.0f / 5040);  // Taylor: |r| <= ln(2)/2, so the term left out is below 6e-9
    p = hn::MulAdd(p, r, hn::Set(d, 1.0f / 720));
    p = hn::MulAdd(p, r, hn::Set(d, 1.0f / 120));
    p = hn::MulAdd(p, r, hn::Set(d, 1.0f / 24));
    p = hn::MulAdd(p, r, hn::Set(d, 1.0f / 6));
    p = hn::MulAdd(p, r, hn::Set(d, 0.5f));
    p = hn::MulAdd(p, r, hn::Set(d, 1.0f));
    p = hn::MulAdd(p, r, hn::Set(d, 1.0f));
    const auto exponent = hn::ShiftLeft<23>(hn::Add(hn::ConvertTo(DI(), n), hn::Set(DI(), 127)));
    return hn::IfThenElseZero(keep, hn::Mul(p, hn::BitCast(d, exponent)));
}

// erf(x / sqrt 2): the usual rational function of float libraries, odd over even, constant from
// |x / sqrt 2| = 4 on.
static HWY_INLINE V erf_of_root_half(V x) {
    const D d;
    const V bound = hn::Set(d, 4.0f);
    const V t = hn::Max(hn::Neg(bound), hn::Min(bound, hn::Mul(x, hn::Set(d, 0.70710678118f))));
    const V s = hn::Mul(t, t);
    V p = hn::Set(d, -2.72614225801306e-10f);
    p = hn::MulAdd(p, s, hn::Set(d, 2.77068142495902e-08f));
    p = hn::MulAdd(p, s, hn::Set(d, -2.10102402082508e-06f));
    p = hn::MulAdd(p, s, hn::Set(d, -5.69250639462346e-05f));
    p = hn::MulAdd(p, s, hn::Set(d, -7.34990630326855e-04f));
    p = hn::MulAdd(p, s, hn::Set(d, -2.95459980854025e-03f));
    p = hn::MulAdd(p, s, hn::Set(d, -1.60960333262415e-02f));
    V q = hn::Set(d, -1.45660718464996e-05f);
    q = hn::MulAdd(q, s, hn::Set(d, -2.13374055278905e-04f));
    q = hn::MulAdd(q, s, hn::Set(d, -1.68282697438203e-03f));
    q = hn::MulAdd(q, s, hn::Set(d, -7.37332916720468e-03f));
    q = hn::MulAdd(q, s, hn::Set(d, -1.42647390514189e-02f));
    return hn::Div(hn::Mul(t, p), q);
}

// x * (1 + erf(x / sqrt 2)) / 2, within 1.1e-6 of the exact value, relative above 1.
static HWY_INLINE V gelu_of(V x) {
    const V half = hn::Mul(x, hn::Set(D(), 0.5f));
    return hn::MulAdd(half, erf_of_root_half(x), half);
}

// Its derivative: (1 + erf(x / sqrt 2)) / 2 + x * exp(-x^2 / 2) / sqrt(2 pi).
static HWY_INLINE V gelu_slope_of(V x) {
    const D d;
    const V bell = exp_of(hn::Mul(hn::Mul(x, x), hn::Set(d, -0.5f)));
    const V share = hn::MulAdd(erf_of_root_half(x), hn::Set(d, 0.5f), hn::Set(d, 0.5f));
    return hn::MulAdd(hn::Mul(x, hn::Set(d, 0.3989422804f)), bell, share);
}

static HWY_INLINE V sigmoid_of(V x) {
    const D d;
    return hn::Div(hn::Set(d, 1.0f), hn::Add(hn::Set(d, 1.0f), exp_of(hn::Neg(x))));
}

}  // namespace HWY_NAMESPACE
}  // namespace internvl
HWY_AFTER_NAMESPACE();

#endif
