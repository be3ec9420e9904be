#include "train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace internvl {

int64_t Schedule::warmup_steps() const {
    return int64_t(std::ceil(double(steps) * warmup_ratio));
}

double Schedule::at(int64_t step) const {
    const int64_t warmup = warmup_steps();
    if (step < warmup) return rate * double(step) / double(std::max<int64_t>(1, warmup));
    const double passed = double(step - warmup) / double(std::max<int64_t>(1, steps - warmup));
    return rate * std::max(0.0, 0.5 * (1 + std::cos(std::numbers::pi * passed)));
}

}  // namespace internvl
