#pragma once
// LLM.int8 as bitsandbytes 0.41 computes it on a GPU, what the original's load_in_8bit means (spec
// 8.1 with its corrections). For comparing only: inputs that reach the threshold in any row of a
// call are taken apart for all of its rows, so a row's bits depend on its company.
//   codes of weights and rows: rint(x * 127/s) of x in fp16, s the largest magnitude of the output
//   or row; inputs at or above the threshold do not count for a row, and the code of an outlier
//   column is 0 in every row;
//   product: fp16(sum of codes * 1/127^2 * s_row * s_output), then in the type of the activations
//   + bias, + (outlier columns of x) * (their weights again from codes), each rounded.

#include <vector>

#include "ops/linear.h"

namespace internvl {

constexpr float llm_int8_threshold = 6;

// weight [out, in] of any float type -> `dst`, packed like int8 (kernels.h) with scales of 1;
// returns the largest magnitude of each output, [out] f32.
Tensor pack_llm_int8(Context&, const View& weight, void* dst);

struct LlmInt8Rows {
    Tensor codes;                   // [rows, in] u8: code + 128, stride rounded up to 4
    Tensor largest;                 // [rows] f32
    std::vector<int64_t> outliers;  // columns
};
LlmInt8Rows quantize_llm_int8(Context&, const View& x, float threshold);

// linear_into for layers whose blocks have `largest` (linear.h).
void llm_int8_into(Context&, const View& x, const Linear&, const View& out, const Epilogue&);

}  // namespace internvl
