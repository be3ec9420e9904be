#pragma once
#include <atomic>
#include <cstdint>

namespace internvl {

// Bytes that may be held at a time, for many threads; nobody waits.
class ByteBudget {
  public:
    explicit ByteBudget(int64_t most) : most_(most) {}

    bool take(int64_t bytes) {
        if (taken_.fetch_add(bytes) + bytes <= most_) return true;
        taken_ -= bytes;
        return false;
    }
    void give_back(int64_t bytes) { taken_ -= bytes; }
    int64_t taken() const { return taken_; }

  private:
    const int64_t most_;
    std::atomic<int64_t> taken_ = 0;
};

}  // namespace internvl
