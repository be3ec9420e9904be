#pragma once
#include <atomic>
#include <functional>
#include <string>

#include "base/error.h"
#include "base/parallel.h"
#include "ops/kernels.h"
#include "tensor/arena.h"

namespace internvl {

class Tape;

// Thrown out of a forward pass when its caller asked for the end.
struct Cancelled : Error {
    Cancelled() : Error("interrupted") {}
};

// Everything that an operation may touch besides its arguments.
struct Context {
    const Kernels& kernels;
    ThreadPool& pool;
    Arena& arena;
    DType activations;  // f32 or bf16
    // Called with each named stage of a forward pass ("vision/block3") when somebody traces; else
    // empty.
    std::function<void(const std::string& stage, const View&)> watch = {};
    const std::atomic<bool>* cancel = nullptr;  // set by another thread or a signal
    Tape* tape = nullptr;  // training: what backward needs is recorded there (tape.h)

    // An activation: from the arena, and the tape keeps it.
    Tensor make(DType, std::initializer_list<int64_t> shape) const;
    void stop_if_cancelled() const {
        if (cancel && cancel->load(std::memory_order_relaxed)) throw Cancelled();
    }
};

}  // namespace internvl
