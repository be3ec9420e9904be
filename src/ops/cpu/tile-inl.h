// The tile of tile.h for every other pair of types, over Highway: f32 rows with f32, bf16 or f16
// weights, and bf16 rows with bf16 weights where no pair instruction exists. Included by the kernel
// files that multiply.
#if defined(INTERNVL_OPS_CPU_TILE_INL_H) == defined(HWY_TARGET_TOGGLE)
#ifdef INTERNVL_OPS_CPU_TILE_INL_H
#undef INTERNVL_OPS_CPU_TILE_INL_H
#else
#define INTERNVL_OPS_CPU_TILE_INL_H
#endif

#include "ops/cpu/tile.h"
#include "ops/cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace internvl {
namespace HWY_NAMESPACE {

static constexpr int strip_vectors = int(16 / lanes);
// As many strips at a time as keep the sums in registers: 24 of AVX-512's and NEON's 32, 12 of 16
// elsewhere.
static constexpr int most_sums = lanes == 16 || HWY_TARGET == HWY_NEON ? 24 : 12;
static constexpr int strips_at_once(int rows) {
    return HWY_MAX(1, HWY_MIN(tile_strips, most_sums / (rows * strip_vectors)));
}

// The values of one step of a strip, vector v: `even` only for f32, both of a pair for 16-bit
// types.
static HWY_INLINE V step_value(const float* step, int v, bool /*odd*/) {
    return load(step + v * lanes);
}
static HWY_INLINE V step_value(const bf16_t* step, int v, bool odd) {
    const auto pairs = hn::LoadU(DU(), reinterpret_cast<const uint32_t*>(step) + v * lanes);
    return hn::BitCast(D(),
                       odd ? hn::And(pairs, hn::Set(DU(), 0xffff0000u)) : hn::ShiftLeft<16>(pairs));
}
static HWY_INLINE V step_value(const f16_t* step, int v, bool odd) {
    const auto pairs = hn::LoadU(DU(), reinterpret_cast<const uint32_t*>(step) + v * lanes);
    const auto half = odd ? hn::ShiftRight<16>(pairs) : hn::And(pairs, hn::Set(DU(), 0xffffu));
    const auto narrow = hn::DemoteTo(D16(), hn::BitCast(DI(), half));
    const hn::Rebind<hwy::float16_t, D> d16;
    return hn::PromoteTo(D(), hn::BitCast(d16, narrow));
}

template <class A, class W, int rows, int strips>
static void tile_part(const TileArgs& t, int first_strip) {
    constexpr int per_step = sizeof(W) == 2 ? 2 : 1;
    constexpr int vectors = strips * strip_vectors;
    float* out = t.out + 16 * first_strip;
    V sum[rows][vectors];
    for (int r = 0; r < rows; ++r)
        for (int v = 0; v < vectors; ++v)
            sum[r][v] = t.accumulate ? load(out + r * t.out_stride + v * lanes) : hn::Zero(D());
    const A* a = static_cast<const A*>(t.a);
    for (int64_t segment = 0; segment < t.segment_count; ++segment) {
        const char* base = static_cast<const char*>(t.segments[segment]);
        for (int64_t step = 0; step < t.segment_steps; ++step, a += per_step)
            for (int odd = 0; odd < per_step; ++odd) {
                V b[vectors];
                for (int v = 0; v < vectors; ++v) {
                    const int s = v / strip_vectors;
                    const char* at = base + t.strip_offset[first_strip + s] + step * t.step_bytes;
                    b[v] = step_value(reinterpret_cast<const W*>(at), v % strip_vectors, odd);
                }
                for (int r = 0; r < rows; ++r) {
                    const V x = hn::Set(D(), to_float(a[r * t.a_stride + odd]));
                    for (int v = 0; v < vectors; ++v) sum[r][v] = hn::MulAdd(x, b[v], sum[r][v]);
                }
            }
    }
    for (int r = 0; r < rows; ++r)
        for (int v = 0; v < vectors; ++v) store(sum[r][v], out + r * t.out_stride + v * lanes);
}

template <class A, class W, int rows>
static void tile_of_rows(const TileArgs& t) {
    constexpr int together = strips_at_once(rows);
    int s = 0;
    for (; s + together <= t.strips; s += together) tile_part<A, W, rows, together>(t, s);
    if constexpr (together > 1)
        for (; s < t.strips; ++s) tile_part<A, W, rows, 1>(t, s);
}

template <class A, class W>
static void tile_of(int rows, const TileArgs& t) {
    switch (rows) {
        case 1:
            return tile_of_rows<A, W, 1>(t);
        case 2:
            return tile_of_rows<A, W, 2>(t);
        case 3:
            return tile_of_rows<A, W, 3>(t);
        case 4:
            return tile_of_rows<A, W, 4>(t);
        case 5:
            return tile_of_rows<A, W, 5>(t);
        default:
            return tile_of_rows<A, W, 6>(t);
    }
}

// The tile for activations `a` and weights `w` (null when the pair does not occur).
static HWY_MAYBE_UNUSED TileKernel tile_kernel(DType a, DType w, bool pairs) {
    if (a == DType::bf16 && w == DType::bf16)
        return pairs ? tile_bf16_pairs : tile_of<bf16_t, bf16_t>;
    if (a != DType::f32) return nullptr;
    if (w == DType::f32) return tile_of<float, float>;
    if (w == DType::bf16) return tile_of<float, bf16_t>;
    return w == DType::f16 ? tile_of<float, f16_t> : nullptr;
}

}  // namespace HWY_NAMESPACE
}  // namespace internvl
HWY_AFTER_NAMESPACE();

#endif
