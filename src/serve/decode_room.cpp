#include "serve/decode_room.h"

#include <optional>
#include <utility>
#include <vector>

namespace internvl {

constexpr auto tick = std::chrono::milliseconds(20);  // between looks at clocks and tokens

DecodeRoom::DecodeRoom(int64_t bytes, std::chrono::milliseconds patience)
    : most_(bytes), patience_(patience), attendant_([this] { attend(); }) {}

DecodeRoom::~DecodeRoom() {
    close();
}

void DecodeRoom::close() {
    {
        const std::lock_guard lock(mutex_);
        ending_ = true;
    }
    wake_.notify_all();
    if (attendant_.joinable()) attendant_.join();
}

void DecodeRoom::ask(int64_t bytes, std::function<bool()> stopped,
                     std::function<void(Answer)> answered) {
    if (bytes > most_) return answered(Answer::no_room);
    Answer answer = Answer::granted;
    {
        const std::lock_guard lock(mutex_);
        if (ending_) {
            answer = Answer::stopped;
        } else if (!wishes_.empty() || bytes > most_ - taken_) {
            wishes_.push_back(
                {bytes, Clock::now() + patience_, std::move(stopped), std::move(answered)});
            wake_.notify_all();
            return;
        } else {
            taken_ += bytes;
        }
    }
    answered(answer);
}

void DecodeRoom::give_back(int64_t bytes) {
    const std::lock_guard lock(mutex_);
    taken_ -= bytes;
    if (!wishes_.empty()) wake_.notify_all();
}

int64_t DecodeRoom::taken() const {
    const std::lock_guard lock(mutex_);
    return taken_;
}

int64_t DecodeRoom::waiting() const {
    const std::lock_guard lock(mutex_);
    return int64_t(wishes_.size());
}

// Looks at those who wait, again and again while there are some; sleeps while there are none.
void DecodeRoom::attend() {
    std::unique_lock lock(mutex_);
    while (!ending_ || !wishes_.empty()) {
        if (wishes_.empty()) {
            wake_.wait(lock);
            continue;
        }
        std::vector<std::pair<std::function<void(Answer)>, Answer>> answers;
        bool first_waits = false;  // and so do all behind it
        for (auto wish = wishes_.begin(); wish != wishes_.end();) {
            std::optional<Answer> answer;
            if (ending_ || wish->stopped()) {
                answer = Answer::stopped;
            } else if (!first_waits && wish->bytes <= most_ - taken_) {
                taken_ += wish->bytes;
                answer = Answer::granted;
            } else if (Clock::now() >= wish->due) {
                answer = Answer::no_room;
            }
            first_waits |= !answer;
            if (answer) answers.emplace_back(std::move(wish->answered), *answer);
            wish = answer ? wishes_.erase(wish) : wish + 1;
        }
        if (answers.empty()) {
            wake_.wait_for(lock, tick);
            continue;
        }
        lock.unlock();
        for (const auto& [answered, answer] : answers) answered(answer);
        lock.lock();
    }
}

}  // namespace internvl
