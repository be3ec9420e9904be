#pragma once
#include <functional>
#include <string>

#include "base/parallel.h"
#include "ops/kernels.h"
#include "tensor/arena.h"

namespace internvl {

// Everything that an operation may touch besides its arguments.
struct Context {
    const Kernels& kernels;
    ThreadPool& pool;
    Arena& arena;
    DType activations;  // f32 or bf16
    // Called with each named stage of a forward pass ("vision/block3") when somebody traces; else empty.
    std::function<void(const std::string& stage, const View&)> watch;
};

}  // namespace internvl
