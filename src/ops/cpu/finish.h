#pragma once
// What happens to a tile of sums before it is stored.

#include "ops/kernels.h"

namespace internvl {

// Columns [first, first + count) of a block, `rows` rows from `row` on; sums [rows, 64].
struct FinishArgs {
    const GemmArgs& gemm;
    const GemmBlock& block;
    const float* sums;
    int64_t row, first, count;
    int rows;
};
using FinishTile = void (*)(const FinishArgs&);

// For bf16 results on AVX512-BF16: GELU within 3.4e-5; null where the compiler has no such target.
extern const FinishTile finish_bf16_pairs;

}  // namespace internvl
