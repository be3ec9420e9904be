#pragma once
#include <string>
#include <vector>

#include "io/checkpoint.h"
#include "model/tensors.h"
#include "ops/context.h"

namespace internvl {

// The tensors in which a quantised folder keeps a product's weight X.weight [out, in]; none where
// it is kept as it is.
//   int4, AWQ's gemm layout: X.qweight I32 [in, out/8], X.qzeros I32 [in/group, out/8], X.scales
//   F16 [in/group, out]; input k of output o is (code - zero) * scale;
//   int8: X.weight I8 [out, in], X.weight_scale F32 [out].
std::vector<TensorPlan> code_tensors(const TensorSpec&, const QuantPolicy&);

// Those of a checkpoint, or nulls where it keeps the weight as it is.
struct FiledCodes {
    const TensorEntry *codes = nullptr, *scale = nullptr;
    const TensorEntry* zero = nullptr;  // int4
    int64_t out = 0, in = 0;
    explicit operator bool() const { return codes != nullptr; }
};
FiledCodes find_codes(const Checkpoint&, const std::string& weight);

// Packed weights as a file keeps them: the bytes of each of code_tensors(), in order.
std::vector<std::vector<uint8_t>> filed_bytes(CodeBuffers, const WeightFormat&, int64_t out,
                                              int64_t in);

// Packs them for products. Their shapes have been checked.
void pack_filed(Context&, const FiledCodes&, const WeightFormat&, void* dst);

}  // namespace internvl
