#pragma once
#include <atomic>
#include <memory>

namespace internvl {

// A wish to stop, shared by who utters it and who works. Copies are the same token; any thread may
// call it. Who works asks often, at least every 50 ms.
class CancelToken {
  public:
    void cancel() const { state_->store(true, std::memory_order_relaxed); }
    bool cancelled() const { return state_->load(std::memory_order_relaxed); }

  private:
    std::shared_ptr<std::atomic<bool>> state_ = std::make_shared<std::atomic<bool>>(false);
};

}  // namespace internvl
