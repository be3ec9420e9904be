#pragma once
#include <memory>
#include <string>
#include <vector>

#include "ops/context.h"

namespace internvl {

struct Adapter;

// One weight tensor of the checkpoint under its own name, packed for products (kernels.h).
struct Block {
    std::string name;
    std::shared_ptr<void> packed;
    WeightFormat format;
    int64_t out = 0, in = 0;
    Tensor bias;                       // [out] f32, or absent
    Tensor largest;                    // LLM.int8 (llm_int8.h): [out] f32; else absent
    std::shared_ptr<Adapter> adapter;  // LoRA while it is trained, or absent
};

// A product with the rows of all its blocks, one below the other: [rows, in] -> [rows, out].
// Families differ in how their files cut a layer's weights (q, k, v or one qkv); this hides it.
struct Linear {
    std::vector<Block> blocks;
    int64_t in = 0, out = 0;
    float outliers_from = 0;  // LLM.int8 with this threshold; 0: as the blocks' format says
};

// What LoRA adds to a block: scale * up(down(x)), before an activation.
struct Adapter {
    Linear down, up;                // [in] -> [rank] -> [out], packed from
    Tensor down_values, up_values;  // [rank, in] and [out, rank], f32
    Tensor scale;                   // [out] f32, one number everywhere
};

// What else happens while the result is in registers: residual + scale * activation(x w + bias).
struct Epilogue {
    Activation activation = Activation::none;
    const Tensor* scale = nullptr;  // [out] f32
    View residual = {};             // [rows, out]; may be the output
};

// x [rows, in] -> [rows, out] of the activation type. With a tape, the layer and what the epilogue
// names must live until backward has run.
Tensor linear(Context&, const View& x, const Linear&, const Epilogue& = {});
// The same into a given place: out [rows, out], activations or f32.
void linear_into(Context&, const View& x, const Linear&, const View& out, const Epilogue& = {});

}  // namespace internvl
