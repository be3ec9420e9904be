#pragma once
// How one kernel file becomes several: Highway compiles it once for each instruction set below, and
// the table picks.
//
// Only these sets are built: AVX-512, AVX2, the plain x86-64 of the compiler (SSE2 or Highway's
// emulation), NEON. Bits are Highway's own (hwy/detect_targets.h); fewer sets keep the build short.
#define HWY_DISABLED_TARGETS                                                             \
    (~((1LL << 8) | (1LL << 9) | (1LL << 14) | (1LL << 28) | (1LL << 29) | (1LL << 61) | \
       (1LL << 62)))

#include "ops/kernels.h"

// In the HWY_ONCE part of a file: calls FUNCTION of the build that suits `isa`.
#if defined(__x86_64__)
#define INTERNVL_PICK(isa, FUNCTION, ...)                 \
    ((isa) >= Isa::avx512 ? N_AVX3::FUNCTION(__VA_ARGS__) \
     : (isa) == Isa::avx2 ? N_AVX2::FUNCTION(__VA_ARGS__) \
                          : HWY_STATIC_DISPATCH(FUNCTION)(__VA_ARGS__))
#else
#define INTERNVL_PICK(isa, FUNCTION, ...) HWY_STATIC_DISPATCH(FUNCTION)(__VA_ARGS__)
#endif

namespace internvl {

// Each file of kernels fills its entries of the table.
void fill_gemm(Kernels& table, Isa isa);
void fill_cache_store(Kernels& table, Isa isa);
void fill_attention(Kernels& table, Isa isa);
void fill_norm(Kernels& table, Isa isa);
void fill_pointwise(Kernels& table, Isa isa);
void fill_pack(Kernels& table, Isa isa);
void fill_quantize(Kernels& table, Isa isa);
void fill_finish_rows(Kernels& table, Isa isa);
void fill_attention_backward(Kernels& table, Isa isa);
void fill_loss(Kernels& table, Isa isa);
void fill_optimizer(Kernels& table, Isa isa);
void fill_transpose(Kernels& table);

}  // namespace internvl
