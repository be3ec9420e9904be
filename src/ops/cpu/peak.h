#pragma once
#include "base/parallel.h"
#include "tensor/dtype.h"

namespace internvl {

// What this machine can do at most, measured by loops that do nothing else: the measure of every
// benchmark. Each takes about a second on all threads of the pool, and is the median of several
// runs.

// Products and sums of f32 (fused multiply-add) or bf16 (pair products into f32, where the
// processor has them, else the f32 rate), or of bytes (i8, with AVX512-VNNI, else the f32 rate),
// from registers, in GFLOP/s.
double peak_gflops(DType dtype, ThreadPool& pool);
// Reading memory far larger than the caches, in GB/s.
double peak_read_gb_per_s(ThreadPool& pool);

}  // namespace internvl
