// Products of bytes by `vpdpbusd`. Like tile_bf16.cpp: intrinsics behind a target attribute, static
// functions only.
#include "ops/cpu/quant_tile.h"

#if defined(__x86_64__)
#include <immintrin.h>

#include <cstring>

namespace internvl {

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")))

TARGET static inline __m512i quad(const uint8_t* a) {
    int four;
    std::memcpy(&four, a, 4);
    return _mm512_set1_epi32(four);
}

// sum + x * w, unsigned by signed bytes, in fours. GCC 12 moves the sum to another register and
// back around its own intrinsic.
TARGET static inline __m512i add_products(__m512i sum, __m512i x, __m512i w) {
    asm("vpdpbusd %2, %1, %0" : "+v"(sum) : "v"(x), "v"(w));
    return sum;
}

template <int rows, int strips>
TARGET static void int8_tile(const QuantTileArgs& t) {
    __m512i sum[rows][strips];
    for (int r = 0; r < rows; ++r)
        for (int s = 0; s < strips; ++s) sum[r][s] = _mm512_setzero_si512();
    const uint8_t* a = t.a;
    const uint8_t* const end = a + 4 * t.steps;
    const char* b = t.panel + int8_header;
    do {
        __m512i w[strips];
        for (int s = 0; s < strips; ++s) w[s] = _mm512_loadu_si512(b + 64 * s);
        for (int r = 0; r < rows; ++r) {
            const __m512i x = quad(a + r * t.a_stride);
            for (int s = 0; s < strips; ++s) sum[r][s] = add_products(sum[r][s], x, w[s]);
        }
        a += 4;
        b += 256;
    } while (a != end);
    const float* scale = reinterpret_cast<const float*>(t.panel);
    for (int s = 0; s < strips; ++s) {
        const __m512 by = _mm512_loadu_ps(scale + 16 * s);
        const __m512i minus = _mm512_loadu_si512(t.panel + 256 + 64 * s);
        for (int r = 0; r < rows; ++r) {
            const __m512 x = _mm512_cvtepi32_ps(_mm512_sub_epi32(sum[r][s], minus));
            _mm512_storeu_ps(t.out + 64 * r + 16 * s,
                             _mm512_mul_ps(_mm512_mul_ps(x, by), _mm512_set1_ps(t.a_scale[r])));
        }
    }
}

// The end of a group: (sum - zero * sum of a's codes) * scale * a's scale, added to the row.
template <int rows, int strips>
TARGET static inline void add_group(const QuantTileArgs& t, const char* header, int64_t g,
                                    const __m512i (&sum)[rows][strips]) {
    for (int s = 0; s < strips; ++s) {
        const __m512 scale =
            _mm512_cvtph_ps(_mm256_loadu_si256(reinterpret_cast<const __m256i*>(header + 32 * s)));
        const __m512 zero = _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(
            _mm_loadu_si128(reinterpret_cast<const __m128i*>(header + 128 + 16 * s))));
        for (int r = 0; r < rows; ++r) {
            float* out = t.out + 64 * r + 16 * s;
            const __m512 before = g == 0 ? _mm512_setzero_ps() : _mm512_loadu_ps(out);
            const __m512 x = _mm512_fnmadd_ps(zero, _mm512_set1_ps(t.a_sum[r * t.groups + g]),
                                              _mm512_cvtepi32_ps(sum[r][s]));
            _mm512_storeu_ps(out,
                             _mm512_fmadd_ps(_mm512_mul_ps(x, scale),
                                             _mm512_set1_ps(t.a_scale[r * t.groups + g]), before));
        }
    }
}

template <int rows, int strips>
TARGET static void int4_tile(const QuantTileArgs& t) {
    const __m512i low = _mm512_set1_epi8(15);
    const uint8_t* a = t.a;
    const char* b = t.panel;
    for (int64_t g = 0; g < t.groups; ++g) {
        const char* const header = b;
        b += int4_group_header;
        __m512i sum[rows][strips];
        for (int r = 0; r < rows; ++r)
            for (int s = 0; s < strips; ++s) sum[r][s] = _mm512_setzero_si512();
        const uint8_t* const end = a + t.group;
        do {
            __m512i w[strips];
            for (int s = 0; s < strips; ++s) w[s] = _mm512_loadu_si512(b + 64 * s);
            for (int half = 0; half < 2; ++half) {
                __m512i codes[strips];
                for (int s = 0; s < strips; ++s)
                    codes[s] = _mm512_and_si512(half ? _mm512_srli_epi16(w[s], 4) : w[s], low);
                for (int r = 0; r < rows; ++r) {
                    const __m512i x = quad(a + r * t.a_stride + 4 * half);
                    for (int s = 0; s < strips; ++s)
                        sum[r][s] = add_products(sum[r][s], codes[s], x);
                }
            }
            a += 8;
            b += 256;
        } while (a != end);
        add_group(t, header, g, sum);
    }
}

template <int rows>
TARGET static void int8_rows(const QuantTileArgs& t) {
    t.strips == 1   ? int8_tile<rows, 1>(t)
    : t.strips == 2 ? int8_tile<rows, 2>(t)
    : t.strips == 3 ? int8_tile<rows, 3>(t)
                    : int8_tile<rows, 4>(t);
}
template <int rows>
TARGET static void int4_rows(const QuantTileArgs& t) {
    t.strips == 1   ? int4_tile<rows, 1>(t)
    : t.strips == 2 ? int4_tile<rows, 2>(t)
    : t.strips == 3 ? int4_tile<rows, 3>(t)
                    : int4_tile<rows, 4>(t);
}

using OfRows = void (*)(const QuantTileArgs&);
static constexpr OfRows int8_of_rows[] = {int8_rows<1>, int8_rows<2>, int8_rows<3>,
                                          int8_rows<4>, int8_rows<5>, int8_rows<6>};
static constexpr OfRows int4_of_rows[] = {int4_rows<1>, int4_rows<2>, int4_rows<3>,
                                          int4_rows<4>, int4_rows<5>, int4_rows<6>};

const QuantTiles quant_tiles_vnni = {
    [](int rows, const QuantTileArgs& t) { int8_of_rows[rows - 1](t); },
    [](int rows, const QuantTileArgs& t) { int4_of_rows[rows - 1](t); }};

TARGET double multiply_quads(int64_t rounds, float* memory) {
    constexpr int chains = 12;
    const __m512i x = _mm512_set1_epi8(1);
    __m512i sum[chains];
    for (int c = 0; c < chains; ++c) sum[c] = _mm512_set1_epi32(int(memory[c]));
    for (int64_t i = 0; i < rounds; ++i)
        for (int c = 0; c < chains; ++c) sum[c] = add_products(sum[c], x, x);
    for (int c = 0; c < chains; ++c) memory[c] = float(_mm512_cvtsi512_si32(sum[c]));
    return double(rounds) * chains * 16 * 8;
}

}  // namespace internvl
#else
namespace internvl {
const QuantTiles quant_tiles_vnni = {};
double multiply_quads(int64_t, float*) {
    return 0;
}
}  // namespace internvl
#endif
