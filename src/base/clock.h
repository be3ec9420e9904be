#pragma once
#include <chrono>

namespace internvl {

// Milliseconds since construction or the last lap.
class Stopwatch {
  public:
    double ms() const {
        return std::chrono::duration<double, std::milli>(std::chrono::steady_clock::now() - start_)
            .count();
    }
    double lap() {
        const double passed = ms();
        start_ = std::chrono::steady_clock::now();
        return passed;
    }

  private:
    std::chrono::steady_clock::time_point start_ = std::chrono::steady_clock::now();
};

}  // namespace internvl
