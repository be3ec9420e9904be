#pragma once
#include <memory>

#include "base/parallel.h"
#include "tensor/dtype.h"

namespace internvl {

// What this machine can do at most, measured by loops that do nothing else: the measure of every
// benchmark. Each uses all threads of the pool and is the median of a few runs, together about a
// tenth of a second: short enough to be taken again around whatever is measured.

// Products and sums of f32 (fused multiply-add) or bf16 (pair products into f32, where the
// processor has them, else the f32 rate), or of bytes (i8, with AVX512-VNNI, else the f32 rate),
// from registers, in GFLOP/s.
double peak_gflops(DType dtype, ThreadPool& pool);
// Reading memory far larger than the caches: 512 MB, held as long as this lives.
class ReadPeak {
  public:
    explicit ReadPeak(ThreadPool& pool);
    double gb_per_s();

  private:
    ThreadPool& pool_;
    std::shared_ptr<float> memory_;
};

}  // namespace internvl
