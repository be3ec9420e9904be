// Products of bf16 pairs by `vdpbf16ps`, which Highway does not yet emit everywhere: plain
// intrinsics behind a target attribute, chosen by the table only on machines that have them.
// Nothing but static functions here, so that no code of this instruction set can leak into others
// through shared symbols.
#include "ops/cpu/tile.h"

#if defined(__x86_64__)
#include <immintrin.h>

#include <cstring>

namespace internvl {

#define TARGET __attribute__((target("avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")))

template <int rows, int strips, bool accumulate>
TARGET static void tile(const TileArgs& t) {
    __m512 sum[rows][strips];
    for (int r = 0; r < rows; ++r)
        for (int s = 0; s < strips; ++s)
            sum[r][s] = accumulate ? _mm512_loadu_ps(t.out + r * t.out_stride + 16 * s)
                                   : _mm512_setzero_ps();
    const char* a = static_cast<const char*>(t.a);
    const int64_t row_bytes = t.a_stride * 2;
    const void* const* segment = t.segments;
    const void* const* const last = segment + t.segment_count;
    do {  // there is at least one segment of at least one step: no sums are kept for other cases
        const char* strip[strips];
        for (int s = 0; s < strips; ++s)
            strip[s] = static_cast<const char*>(*segment) + t.strip_offset[s];
        const char* const end = a + 4 * t.segment_steps;
        do {
            __m512bh b[strips];
            for (int s = 0; s < strips; ++s) {
                b[s] = (__m512bh)_mm512_loadu_si512(strip[s]);
                strip[s] += t.step_bytes;
            }
            for (int r = 0; r < rows; ++r) {
                int pair;
                std::memcpy(&pair, a + r * row_bytes, 4);
                const __m512bh both = (__m512bh)_mm512_set1_epi32(pair);
                for (int s = 0; s < strips; ++s)
                    sum[r][s] = _mm512_dpbf16_ps(sum[r][s], both, b[s]);
            }
            a += 4;
        } while (a != end);
    } while (++segment != last);
    for (int r = 0; r < rows; ++r)
        for (int s = 0; s < strips; ++s)
            _mm512_storeu_ps(t.out + r * t.out_stride + 16 * s, sum[r][s]);
}

template <int rows, int strips>
TARGET static void tile_of_strips(const TileArgs& t) {
    t.accumulate ? tile<rows, strips, true>(t) : tile<rows, strips, false>(t);
}

template <int rows>
TARGET static void tile_of_rows(const TileArgs& t) {
    switch (t.strips) {
        case 1:
            return tile_of_strips<rows, 1>(t);
        case 2:
            return tile_of_strips<rows, 2>(t);
        case 3:
            return tile_of_strips<rows, 3>(t);
        default:
            return tile_of_strips<rows, 4>(t);
    }
}

static void dispatch(int rows, const TileArgs& t) {
    switch (rows) {
        case 1:
            return tile_of_rows<1>(t);
        case 2:
            return tile_of_rows<2>(t);
        case 3:
            return tile_of_rows<3>(t);
        case 4:
            return tile_of_rows<4>(t);
        case 5:
            return tile_of_rows<5>(t);
        default:
            return tile_of_rows<6>(t);
    }
}

const TileKernel tile_bf16_pairs = dispatch;

TARGET double multiply_pairs(int64_t rounds, float* memory) {
    constexpr int chains = 12;
    const __m512bh x = (__m512bh)_mm512_set1_epi32(0x3c003c00);  // 0.0078
    __m512 sum[chains];
    for (int c = 0; c < chains; ++c) sum[c] = _mm512_set1_ps(memory[c]);
    for (int64_t i = 0; i < rounds; ++i)
        for (int c = 0; c < chains; ++c) sum[c] = _mm512_dpbf16_ps(sum[c], x, x);
    for (int c = 0; c < chains; ++c) memory[c] = _mm512_cvtss_f32(sum[c]);
    return double(rounds) * chains * 16 * 4;
}

}  // namespace internvl
#else
namespace internvl {
const TileKernel tile_bf16_pairs = nullptr;
double multiply_pairs(int64_t, float*) {
    return 0;
}
}  // namespace internvl
#endif
