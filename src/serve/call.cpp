#include "serve/call.h"

#include <utility>

namespace internvl {

void Call::wake_unlocked(std::unique_lock<std::mutex>& lock) {
    const auto wake = wake_;
    lock.unlock();
    if (wake) wake();
}

void Call::respond(HttpResponse response) {
    std::unique_lock lock(mutex_);
    if (response_ || streamed_ || finished_) return;
    response_ = std::move(response);
    finished_ = true;
    wake_unlocked(lock);
}

void Call::start(HttpResponse response) {
    std::unique_lock lock(mutex_);
    if (response_ || streamed_ || finished_) return;
    response_ = std::move(response);
    streamed_ = true;
    wake_unlocked(lock);
}

void Call::write(std::string bytes) {
    std::unique_lock lock(mutex_);
    if (finished_ || gone_ || overrun_) return;
    if (waiting_.size() + bytes.size() > max_waiting) {
        overrun_ = true;
        waiting_.clear();
    } else {
        waiting_ += bytes;
    }
    wake_unlocked(lock);
}

void Call::finish() {
    std::unique_lock lock(mutex_);
    if (finished_) return;
    finished_ = true;
    wake_unlocked(lock);
}

void Call::on_gone(std::function<void()> heard) {
    std::unique_lock lock(mutex_);
    if (!gone_) {
        gone_heard_ = std::move(heard);
        return;
    }
    lock.unlock();
    heard();
}

bool Call::gone() const {
    const std::lock_guard lock(mutex_);
    return gone_;
}

Call::Output Call::take() {
    const std::lock_guard lock(mutex_);
    Output out;
    out.head = std::exchange(response_, std::nullopt);
    out.streamed = streamed_;
    out.bytes = std::exchange(waiting_, {});
    out.finished = finished_;
    out.overrun = overrun_;
    return out;
}

void Call::set_wake(std::function<void()> wake) {
    const std::lock_guard lock(mutex_);
    wake_ = std::move(wake);
}

void Call::leave() {
    std::unique_lock lock(mutex_);
    if (gone_ || finished_) return;  // who goes with the whole answer does not leave
    gone_ = true;
    const auto heard = std::exchange(gone_heard_, nullptr);
    lock.unlock();
    if (heard) heard();
}

void Call::done() {
    std::unique_lock lock(mutex_);
    if (std::exchange(done_, true)) return;
    wake_ = nullptr;
    gone_heard_ = nullptr;
    lock.unlock();
    if (on_done) on_done(*this);
}

}  // namespace internvl
