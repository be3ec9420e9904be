#pragma once
// An operation with its gradient, and a naive forward in double precision to take differences of.

#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "ops/cases.h"
#include "ops/ops.h"
#include "ops/tape.h"

namespace internvl {

using Numbers = std::vector<double>;
using Inputs = std::vector<Numbers>;

struct Input {
    enum Kind { activation, vector, weight } kind;  // vectors are f32 always, weights packed
    std::vector<int64_t> shape;
};

// What the operation gets for an input.
struct Leaf {
    Tensor value, gradient;
    std::shared_ptr<void> packed;
    Block block(Tensor bias = {}) const {
        return {"", packed, value.dtype, value.dim[0], value.dim[1], std::move(bias), {}, {}};
    }
};
using Leaves = std::vector<Leaf>;

struct BackwardCase {
    std::string name;
    std::vector<Input> inputs;
    std::function<Numbers(const Inputs&)> exact;
    std::function<View(Context&, const Leaves&)> run;  // the result: a leaf, or made with the tape
    // What the operation wants to live until backward has run.
    std::shared_ptr<Linear> layer = {};
};

// Made at random and known to the context's tape.
Leaf make_leaf(Context&, const Input&, uint64_t seed);

// Values against the naive forward, gradients of every input against its central differences: in
// f32 and bf16, on every instruction set of this machine.
void check_all(const std::vector<BackwardCase>&);

}  // namespace internvl
