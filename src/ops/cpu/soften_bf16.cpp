// The softmax step of attention for processors with AVX512-BF16. Like tile_bf16.cpp: intrinsics
// behind a target attribute, static functions only.
#include "ops/cpu/soften.h"

#if defined(__x86_64__)
#include <immintrin.h>

namespace internvl {

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")))

// 2^t for t <= 0 within 7.5e-5, relative; t below -126 counts as -126, which bf16 rounds away
// beside the row's largest weight, 1.
TARGET static __m512 exp2_of(__m512 t) {
    t = _mm512_max_ps(t, _mm512_set1_ps(-126.0f));
    const __m512 r =
        _mm512_reduce_ps(t, _MM_FROUND_TO_NEG_INF | _MM_FROUND_NO_EXC);  // t - floor(t)
    __m512 p = _mm512_set1_ps(7.8024523e-2f);
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(2.2606716e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(6.9583354e-1f));
    p = _mm512_fmadd_ps(p, r, _mm512_set1_ps(9.9992522e-1f));
    return _mm512_scalef_ps(p, t);  // p * 2^floor(t)
}

TARGET static void rescale(const SoftState& s, float now, float scale) {
    const float keep = _mm512_cvtss_f32(exp2_of(_mm512_set1_ps((*s.maximum - now) * scale)));
    *s.total *= keep;
    *s.maximum = now;
    for (int64_t i = 0; i < s.head_dim; i += 16)
        _mm512_storeu_ps(s.sums + i,
                         _mm512_mul_ps(_mm512_loadu_ps(s.sums + i), _mm512_set1_ps(keep)));
}

TARGET static void soften(float* scores, int64_t count, int64_t padded, float scale,
                          const SoftState& s, void* weights) {
    const __m512 low = _mm512_set1_ps(-__builtin_inff());
    const int64_t whole = count / 16 * 16;
    const __mmask16 rest = __mmask16((1u << (count - whole)) - 1);
    if (rest) _mm512_storeu_ps(scores + whole, _mm512_mask_loadu_ps(low, rest, scores + whole));
    __m512 top[2] = {low, low};
    int64_t i = 0;
    for (; i + 32 <= whole; i += 32) {
        top[0] = _mm512_max_ps(top[0], _mm512_loadu_ps(scores + i));
        top[1] = _mm512_max_ps(top[1], _mm512_loadu_ps(scores + i + 16));
    }
    for (; i < count; i += 16) top[0] = _mm512_max_ps(top[0], _mm512_loadu_ps(scores + i));
    const float most = _mm512_reduce_max_ps(_mm512_max_ps(top[0], top[1]));
    const float by = scale * 1.44269504f;  // exp(x) = 2^(x log2(e))
    if (most > *s.maximum) rescale(s, most, by);
    const __m512 factor = _mm512_set1_ps(by), minus = _mm512_set1_ps(-*s.maximum * by);
    __m512 sum[2] = {_mm512_setzero_ps(), _mm512_setzero_ps()};
    char* out = static_cast<char*>(weights);
    for (i = 0; i + 32 <= whole; i += 32, out += 64) {
        const __m512 a = exp2_of(_mm512_fmadd_ps(_mm512_loadu_ps(scores + i), factor, minus));
        const __m512 b = exp2_of(_mm512_fmadd_ps(_mm512_loadu_ps(scores + i + 16), factor, minus));
        sum[0] = _mm512_add_ps(sum[0], a);
        sum[1] = _mm512_add_ps(sum[1], b);
        _mm512_storeu_si512(out, (__m512i)_mm512_cvtne2ps_pbh(b, a));
    }
    for (; i < padded; i += 16, out += 32) {
        const __mmask16 here = i >= count ? __mmask16(0) : i < whole ? __mmask16(0xffff) : rest;
        const __m512 a = _mm512_maskz_mov_ps(
            here, exp2_of(_mm512_fmadd_ps(_mm512_loadu_ps(scores + i), factor, minus)));
        sum[0] = _mm512_add_ps(sum[0], a);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(out), (__m256i)_mm512_cvtneps_pbh(a));
    }
    *s.total += _mm512_reduce_add_ps(_mm512_add_ps(sum[0], sum[1]));
}

const SoftenRow soften_bf16_pairs = soften;

}  // namespace internvl
#else
namespace internvl {
const SoftenRow soften_bf16_pairs = nullptr;
}  // namespace internvl
#endif
