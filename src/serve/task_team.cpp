#include "serve/task_team.h"

#include <chrono>
#include <system_error>
#include <thread>

namespace internvl {

constexpr auto patience = std::chrono::seconds(10);  // of a thread without work

TaskTeam::~TaskTeam() {
    std::unique_lock lock(mutex_);
    ending_ = true;
    wake_.notify_all();
    gone_.wait(lock, [&] { return threads_ == 0; });
}

void TaskTeam::post(std::function<void()> task) {
    const std::lock_guard lock(mutex_);
    queue_.push_back(std::move(task));
    if (idle_ >= int(queue_.size()) || threads_ >= most_) return wake_.notify_one();
    try {
        std::thread([this] { work(); }).detach();
        ++threads_;
    } catch (const std::system_error&) {  // no more threads: those that are there will do it
        if (threads_ == 0) {
            queue_.pop_back();
            throw;
        }
        wake_.notify_one();
    }
}

void TaskTeam::work() {
    std::unique_lock lock(mutex_);
    for (;;) {
        ++idle_;
        wake_.wait_for(lock, patience, [&] { return ending_ || !queue_.empty(); });
        --idle_;
        if (queue_.empty()) break;  // at the end, or after a long wait
        const std::function<void()> task = std::move(queue_.front());
        queue_.pop_front();
        lock.unlock();
        task();
        lock.lock();
    }
    --threads_;
    // Under the lock, so that the team is still there.
    gone_.notify_all();
}

}  // namespace internvl
