#include "media/blend.h"

#include "base/cpu.h"

namespace internvl {
namespace {

#define INTERNVL_INLINE __attribute__((always_inline)) inline

// Columns whose sums stay in registers; the compiler turns the loops over them into vectors.
constexpr size_t block = 64;

INTERNVL_INLINE uint8_t rounded(int32_t sum) {
    const int32_t value = sum >> weight_bits;
    return uint8_t(value < 0 ? 0 : value > 255 ? 255 : value);
}

INTERNVL_INLINE void blend_block(const uint8_t* rows, size_t stride, const int32_t* weights,
                                 int taps, uint8_t* out) {
    int32_t sums[block];
    for (size_t i = 0; i < block; ++i) sums[i] = 1 << (weight_bits - 1);
    for (int t = 0; t < taps; ++t) {
        const uint8_t* row = rows + size_t(t) * stride;
        const int32_t weight = weights[t];
        for (size_t i = 0; i < block; ++i) sums[i] += weight * row[i];
    }
    for (size_t i = 0; i < block; ++i) out[i] = rounded(sums[i]);
}

INTERNVL_INLINE void blend_all(const uint8_t* rows, size_t stride, const int32_t* weights, int taps,
                               size_t count, uint8_t* out) {
    size_t i = 0;
    for (; i + block <= count; i += block) blend_block(rows + i, stride, weights, taps, out + i);
    if (i == count) return;
    if (count >= block) {  // the last block again, moved back to end with the row
        blend_block(rows + count - block, stride, weights, taps, out + count - block);
        return;
    }
    for (; i < count; ++i) {
        int32_t sum = 1 << (weight_bits - 1);
        for (int t = 0; t < taps; ++t) sum += weights[t] * rows[size_t(t) * stride + i];
        out[i] = rounded(sum);
    }
}

void blend_generic(const uint8_t* rows, size_t stride, const int32_t* weights, int taps,
                   size_t count, uint8_t* out) {
    blend_all(rows, stride, weights, taps, count, out);
}

#if defined(__x86_64__)
__attribute__((target("avx2"))) void blend_avx2(const uint8_t* rows, size_t stride,
                                                const int32_t* weights, int taps, size_t count,
                                                uint8_t* out) {
    blend_all(rows, stride, weights, taps, count, out);
}

__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl"))) void blend_avx512(
    const uint8_t* rows, size_t stride, const int32_t* weights, int taps, size_t count,
    uint8_t* out) {
    blend_all(rows, stride, weights, taps, count, out);
}
#endif

#undef INTERNVL_INLINE

}  // namespace

BlendRows select_blend_rows() {
#if defined(__x86_64__)
    const Isa isa = selected_isa();
    if (isa >= Isa::avx512) return blend_avx512;
    if (isa >= Isa::avx2) return blend_avx2;
#endif
    return blend_generic;
}

}  // namespace internvl
