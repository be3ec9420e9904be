// Finishing bf16 tiles on processors with AVX512-BF16. Like tile_bf16.cpp: intrinsics behind a
// target attribute, static functions only.
#include "ops/cpu/finish.h"

#if defined(__x86_64__)
#include <immintrin.h>

namespace internvl {

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")))

// x * (1/2 + t P(t^2)), t = x within 4.5: a polynomial for erf(t / sqrt 2) / 2t, least worst error
// of the product over the range. 0 below the range.
TARGET static __m512 gelu_of(__m512 x) {
    const __m512 bound = _mm512_set1_ps(4.5f);
    const __m512 t =
        _mm512_max_ps(_mm512_sub_ps(_mm512_setzero_ps(), bound), _mm512_min_ps(x, bound));
    const __m512 s = _mm512_mul_ps(t, t);
    __m512 p = _mm512_set1_ps(3.0364294e-11f);
    p = _mm512_fmadd_ps(p, s, _mm512_set1_ps(-3.3146697e-9f));
    p = _mm512_fmadd_ps(p, s, _mm512_set1_ps(1.5910004e-7f));
    p = _mm512_fmadd_ps(p, s, _mm512_set1_ps(-4.4517359e-6f));
    p = _mm512_fmadd_ps(p, s, _mm512_set1_ps(8.1425236e-5f));
    p = _mm512_fmadd_ps(p, s, _mm512_set1_ps(-1.0375917e-3f));
    p = _mm512_fmadd_ps(p, s, _mm512_set1_ps(9.5852043e-3f));
    p = _mm512_fmadd_ps(p, s, _mm512_set1_ps(-6.5984658e-2f));
    p = _mm512_fmadd_ps(p, s, _mm512_set1_ps(3.9871261e-1f));
    const __mmask16 keep = _mm512_cmp_ps_mask(x, _mm512_set1_ps(-4.5f), _CMP_GT_OQ);
    return _mm512_maskz_mul_ps(keep, x, _mm512_fmadd_ps(t, p, _mm512_set1_ps(0.5f)));
}

TARGET static __m512 widen(__m256i half) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(half), 16));
}

template <bool gelu, bool residual>
TARGET static void finish(const FinishArgs& f) {
    const GemmArgs& g = f.gemm;
    const int64_t column = f.block.column + f.first;
    for (int64_t i = 0; i < f.count; i += 16) {
        const __mmask16 here =
            f.count - i >= 16 ? __mmask16(0xffff) : __mmask16((1u << (f.count - i)) - 1);
        const __m512 bias = f.block.bias ? _mm512_maskz_loadu_ps(here, f.block.bias + f.first + i)
                                         : _mm512_setzero_ps();
        const __m512 scale =
            g.scale ? _mm512_maskz_loadu_ps(here, g.scale + column + i) : _mm512_set1_ps(1.0f);
        for (int r = 0; r < f.rows; ++r) {
            __m512 v = _mm512_add_ps(_mm512_loadu_ps(f.sums + 64 * r + i), bias);
            if (gelu) v = gelu_of(v);
            v = _mm512_mul_ps(v, scale);
            if (residual)
                v = _mm512_add_ps(
                    v, widen(_mm256_maskz_loadu_epi16(here, g.residual.as<bf16_t>() +
                                                                (f.row + r) * g.residual.stride[0] +
                                                                column + i)));
            _mm256_mask_storeu_epi16(g.c.as<bf16_t>() + (f.row + r) * g.c.stride[0] + column + i,
                                     here, (__m256i)_mm512_cvtneps_pbh(v));
        }
    }
}

TARGET static void dispatch(const FinishArgs& f) {
    const bool gelu = f.gemm.activation == Activation::gelu;
    if (f.gemm.residual)
        gelu ? finish<true, true>(f) : finish<false, true>(f);
    else
        gelu ? finish<true, false>(f) : finish<false, false>(f);
}

const FinishTile finish_bf16_pairs = dispatch;

}  // namespace internvl
#else
namespace internvl {
const FinishTile finish_bf16_pairs = nullptr;
}  // namespace internvl
#endif
