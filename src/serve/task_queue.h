#pragma once
#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>
#include <vector>

namespace internvl {

// Threads that work off what the network's thread has no time for, first come first served.
class TaskQueue {
  public:
    explicit TaskQueue(int threads) {
        for (int i = 0; i < threads; ++i) threads_.emplace_back([this] { work(); });
    }
    ~TaskQueue() { stop(); }
    TaskQueue(const TaskQueue&) = delete;
    TaskQueue& operator=(const TaskQueue&) = delete;

    // Nothing runs any more; what waits, and what is still added, is dropped.
    void stop() {
        {
            const std::lock_guard lock(mutex_);
            ended_ = true;
        }
        more_.notify_all();
        for (std::thread& thread : threads_)
            if (thread.joinable()) thread.join();
    }

    void add(std::function<void()> task) {
        {
            const std::lock_guard lock(mutex_);
            tasks_.push_back(std::move(task));
        }
        more_.notify_one();
    }

  private:
    void work() {
        for (std::unique_lock lock(mutex_);;) {
            more_.wait(lock, [this] { return ended_ || !tasks_.empty(); });
            if (ended_) return;
            const auto task = std::move(tasks_.front());
            tasks_.pop_front();
            lock.unlock();
            task();
            lock.lock();
        }
    }

    std::mutex mutex_;
    std::condition_variable more_;
    std::deque<std::function<void()>> tasks_;
    bool ended_ = false;
    std::vector<std::thread> threads_;
};

}  // namespace internvl
