#pragma once
#include <cstdint>

namespace internvl {

// Learning rate over a run (spec 9.6): linear warm-up from 0, then half a cosine down to 0.
struct Schedule {
    double rate = 4e-5;
    int64_t steps = 0;
    double warmup_ratio = 0.03;  // of the steps, rounded up

    int64_t warmup_steps() const;
    double at(int64_t step) const;  // of optimiser step 0, 1, ...
};

}  // namespace internvl
