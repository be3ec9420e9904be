#pragma once
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>

namespace internvl {

// Threads that come when there is something to do and go when there has been nothing for a while.
// For work that mostly waits.
class TaskTeam {
  public:
    explicit TaskTeam(int most_threads) : most_(most_threads) {}
    ~TaskTeam();  // does what is queued and waits for it

    void post(std::function<void()>);  // which must not throw

  private:
    void work();

    const int most_;
    std::mutex mutex_;
    std::condition_variable wake_, gone_;
    std::deque<std::function<void()>> queue_;
    int threads_ = 0, idle_ = 0;
    bool ending_ = false;
};

}  // namespace internvl
