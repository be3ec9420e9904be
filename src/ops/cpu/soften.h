#pragma once
// One row's step of the online softmax, between the two products of attention.

#include <cstdint>

namespace internvl {

// What a row has seen of its keys so far.
struct SoftState {
    float* maximum;  // of the scores, before scaling
    float* total;    // of exp((score - maximum) * scale)
    float* sums;     // [head_dim] values weighted so
    int64_t head_dim;
};

// Turns `count` scores (a buffer of `padded`, a multiple of 16) into weights exp((score - maximum)
// * scale) of the activation type, zero beyond `count`, and corrects what was summed under a lower
// maximum.
using SoftenRow = void (*)(float* scores, int64_t count, int64_t padded, float scale,
                           const SoftState&, void* weights);

// For bf16 weights on AVX512-BF16: the exponential within 7.5e-5, relative, below what rounding to
// bf16 takes (2e-3); null where the compiler has no such target.
extern const SoftenRow soften_bf16_pairs;

}  // namespace internvl
