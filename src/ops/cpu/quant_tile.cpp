// The plain tiles of quant_tile.h, and those for AVX2.
#include "ops/cpu/quant_tile.h"

#include <cstring>

#include "tensor/dtype.h"

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace internvl {

static int32_t dot(const uint8_t* a, const int8_t* b, int64_t steps) {
    int32_t sum = 0;
    for (int64_t k = 0; k < steps; ++k, a += 4, b += 256)
        for (int i = 0; i < 4; ++i) sum += int32_t(a[i]) * b[i];
    return sum;
}

static void plain_int8(int rows, const QuantTileArgs& t) {
    const float* scale = reinterpret_cast<const float*>(t.panel);
    const int32_t* minus = reinterpret_cast<const int32_t*>(t.panel + 256);
    const int8_t* codes = reinterpret_cast<const int8_t*>(t.panel + int8_header);
    for (int r = 0; r < rows; ++r)
        for (int n = 0; n < 16 * t.strips; ++n) {
            const int32_t sum = dot(t.a + r * t.a_stride, codes + 4 * n, t.steps) - minus[n];
            t.out[64 * r + n] = float(sum) * scale[n] * t.a_scale[r];
        }
}

static void plain_int4(int rows, const QuantTileArgs& t) {
    for (int r = 0; r < rows; ++r)
        for (int n = 0; n < 16 * t.strips; ++n) {
            float all = 0;
            for (int64_t g = 0; g < t.groups; ++g) {
                const char* header = t.panel + g * int4_group_bytes(t.group);
                const uint8_t* codes =
                    reinterpret_cast<const uint8_t*>(header + int4_group_header) + 4 * n;
                const int8_t* a =
                    reinterpret_cast<const int8_t*>(t.a + r * t.a_stride + g * t.group);
                int32_t sum = 0;
                for (int64_t k = 0; k < t.group; k += 8, codes += 256)
                    for (int i = 0; i < 4; ++i)
                        sum += (codes[i] & 15) * a[k + i] + (codes[i] >> 4) * a[k + 4 + i];
                f16_t scale;
                std::memcpy(&scale, header + 2 * n, 2);
                const float zero = float(uint8_t(header[128 + n]));
                const int64_t at = r * t.groups + g;
                all += (float(sum) - zero * t.a_sum[at]) * to_float(scale) * t.a_scale[at];
            }
            t.out[64 * r + n] = all;
        }
}

const QuantTiles quant_tiles_plain = {plain_int8, plain_int4};

#if defined(__x86_64__)
#define TARGET __attribute__((target("avx2,fma")))

// `vectors` times 8 columns: the even and the odd bytes of their codes, as 16-bit numbers, meet
// those of each row.
template <int rows, int vectors>
TARGET static void avx2_columns(const QuantTileArgs& t, int row, int column) {
    __m256i sum[rows][vectors];
    for (int r = 0; r < rows; ++r)
        for (int v = 0; v < vectors; ++v) sum[r][v] = _mm256_setzero_si256();
    const char* b = t.panel + int8_header + 4 * column;
    const uint8_t* a = t.a + row * t.a_stride;
    for (int64_t step = 0; step < t.steps; ++step, a += 4, b += 256) {
        __m256i even[rows], odd[rows];
        for (int r = 0; r < rows; ++r) {
            int four;
            std::memcpy(&four, a + r * t.a_stride, 4);
            even[r] = _mm256_and_si256(_mm256_set1_epi32(four), _mm256_set1_epi16(255));
            odd[r] = _mm256_srli_epi16(_mm256_set1_epi32(four), 8);
        }
        for (int v = 0; v < vectors; ++v) {
            const __m256i w = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(b + 32 * v));
            const __m256i w_even = _mm256_srai_epi16(_mm256_slli_epi16(w, 8), 8);
            const __m256i w_odd = _mm256_srai_epi16(w, 8);
            for (int r = 0; r < rows; ++r)
                sum[r][v] =
                    _mm256_add_epi32(sum[r][v], _mm256_add_epi32(_mm256_madd_epi16(w_even, even[r]),
                                                                 _mm256_madd_epi16(w_odd, odd[r])));
        }
    }
    const float* scale = reinterpret_cast<const float*>(t.panel);
    for (int v = 0; v < vectors; ++v) {
        const int n = column + 8 * v;
        const __m256i minus =
            _mm256_loadu_si256(reinterpret_cast<const __m256i*>(t.panel + 256 + 4 * n));
        for (int r = 0; r < rows; ++r) {
            const __m256 x = _mm256_cvtepi32_ps(_mm256_sub_epi32(sum[r][v], minus));
            const __m256 by = _mm256_mul_ps(x, _mm256_loadu_ps(scale + n));
            _mm256_storeu_ps(t.out + 64 * (row + r) + n,
                             _mm256_mul_ps(by, _mm256_set1_ps(t.a_scale[row + r])));
        }
    }
}

// As many columns at a time as keep the sums in registers.
TARGET static void avx2_int8(int rows, const QuantTileArgs& t) {
    int row = 0;
    for (; row + 3 <= rows; row += 3)
        for (int column = 0; column < 16 * t.strips; column += 16)
            avx2_columns<3, 2>(t, row, column);
    for (; row < rows; ++row) {
        int column = 0;
        for (; column + 64 <= 16 * t.strips; column += 64) avx2_columns<1, 8>(t, row, column);
        for (; column < 16 * t.strips; column += 16) avx2_columns<1, 2>(t, row, column);
    }
}

const QuantTiles quant_tiles_avx2 = {avx2_int8, plain_int4};
#else
const QuantTiles quant_tiles_avx2 = {};
#endif

}  // namespace internvl
