#pragma once
#include <string>
#include <vector>

#include "model/internvl.h"
#include "model/tensors.h"

namespace internvl {

// One tensor of the checkpoint in the place where the loaded model reads it.
struct Parameter {
    enum Kind {
        product,    // `block`: packed weights
        vector,     // `tensor`: f32
        table,      // `tensor`: the embedding, any float type
        class_row,  // `vision`: in first_row
        positions,  // `vision`: the first in first_row, the others in positions
        // One half of a block's adapter: `block` packed from `tensor`, named X.weight.lora_A or
        // .lora_B.
        adapter,
    } kind;
    std::string name;
    Part part;
    int64_t layer = -1;  // of the tower or the decoder; -1: none
    Block* block = nullptr;
    Tensor* tensor = nullptr;
    Vision* vision = nullptr;
};

// All of them in the order of the forward pass. A head that is the embedding gives a second one of
// the same name. They point into the model, which must stay where it is.
std::vector<Parameter> parameters_of(InternVL&);

}  // namespace internvl
