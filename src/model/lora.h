#pragma once
#include "io/checkpoint.h"
#include "tensor/tensor.h"

namespace internvl {

// A folder that the reference's LoRA training saved holds the wrapped names (spec 9.7):
// `language_model.base_model.model.X.base_layer.weight` beside `X.lora_A.default.weight`. Gives the
// tensors the names of a released folder; an adapter of X.weight becomes X.weight.lora_A and
// .lora_B. Does nothing to other folders.
void unwrap_adapters(Checkpoint&);

// The two halves that belong to a weight, or nulls.
struct AdapterEntries {
    const TensorEntry* down = nullptr;  // [rank, in], lora_A
    const TensorEntry* up = nullptr;    // [out, rank], lora_B
};
AdapterEntries find_adapter(const Checkpoint&, const std::string& weight);

// weight + 2 * up * down, each of the three results rounded to the type of the weight (spec 9.7,
// correction B), as a new tensor. weight [out, in], down [rank, in], up [out, rank]; f32, bf16 or
// f16.
Tensor merge_adapter(const View& weight, const View& down, const View& up);

}  // namespace internvl
