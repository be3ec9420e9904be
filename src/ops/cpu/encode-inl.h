// Numbers to codes, for rows of activations and for weights.
#if defined(INTERNVL_OPS_CPU_ENCODE_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef INTERNVL_OPS_CPU_ENCODE_INL_H
#undef INTERNVL_OPS_CPU_ENCODE_INL_H
#else
#define INTERNVL_OPS_CPU_ENCODE_INL_H
#endif

#include "ops/cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace internvl {
namespace HWY_NAMESPACE {

// The largest magnitude of a run.
template <class T>
static float largest(const T* x, int64_t count) {
    V most = hn::Zero(D());
    int64_t i = 0;
    for (; i + lanes <= count; i += lanes) most = hn::Max(most, hn::Abs(load(x + i)));
    if (i < count) most = hn::Max(most, hn::Abs(load_part(x + i, count - i)));
    return hn::GetLane(hn::MaxOfLanes(D(), most));
}

// x * inverse, rounded to even, plus `offset`, between `least` and `most`: one byte each. Returns
// the sum of the codes.
template <class T>
static int32_t encode(const T* x, int64_t count, float inverse, int offset, int least, int most,
                      uint8_t* codes) {
    const DI di;
    auto sum = hn::Zero(di);
    for (int64_t i = 0; i < count; i += lanes) {
        const int64_t left = count - i;
        const auto nearest = hn::NearestInt(hn::Mul(load_upto(x + i, left), hn::Set(D(), inverse)));
        const auto code = hn::Min(
            hn::Max(hn::Add(nearest, hn::Set(di, offset)), hn::Set(di, least)), hn::Set(di, most));
        const hn::Rebind<uint8_t, DI> bytes;
        const auto low = hn::TruncateTo(bytes, hn::BitCast(DU(), code));
        if (left >= lanes) {
            sum = hn::Add(sum, code);
            hn::StoreU(low, bytes, codes + i);
        } else {
            uint8_t part[lanes];
            hn::StoreU(low, bytes, part);
            for (int64_t j = 0; j < left; ++j) codes[i + j] = part[j];
            sum = hn::Add(sum, hn::IfThenElseZero(hn::FirstN(di, size_t(left)), code));
        }
    }
    return hn::GetLane(hn::SumOfLanes(di, sum));
}

static HWY_MAYBE_UNUSED float inverse_of(float scale) {
    return scale > 0 ? 1 / scale : 0;
}

}  // namespace HWY_NAMESPACE
}  // namespace internvl
HWY_AFTER_NAMESPACE();

#endif
