#pragma once
#include <atomic>
#include <memory>

namespace internvl {

// A wish to stop, shared by who utters it and who works. Copies are the same token; any thread may
// call it. Who works asks often, at least every 50 ms.
class CancelToken {
  public:
    void cancel() const { state_->set.store(true, std::memory_order_relaxed); }
    bool cancelled() const {
        for (const State* state = state_.get(); state; state = state->parent.get())
            if (state->set.load(std::memory_order_relaxed)) return true;
        return false;
    }
    // A token of its own that is cancelled with this one, too.
    CancelToken linked() const {
        CancelToken child;
        child.state_->parent = state_;
        return child;
    }

  private:
    struct State {
        std::atomic<bool> set = false;
        std::shared_ptr<const State> parent;
    };
    std::shared_ptr<State> state_ = std::make_shared<State>();
};

}  // namespace internvl
