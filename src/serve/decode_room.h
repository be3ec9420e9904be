#pragma once
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>

namespace internvl {

// Room for decoded media, in bytes, shared by all requests. Who asks for some waits in order, each
// for all that it needs at once, so that nobody holds a part and waits for more.
class DecodeRoom {
  public:
    using Clock = std::chrono::steady_clock;
    enum class Answer { granted, stopped, no_room };

    DecodeRoom(int64_t bytes, std::chrono::milliseconds patience);
    ~DecodeRoom();
    // Everybody who waits hears `stopped`, and who asks from now on. What is taken may still be
    // given back. Not from a thread of the room's.
    void close();

    // `answered` is heard once, from this call or from a thread of the room's. What is more than
    // the room ever holds gets no_room at once.
    void ask(int64_t bytes, std::function<bool()> stopped, std::function<void(Answer)> answered);
    void give_back(int64_t bytes);

    int64_t taken() const;
    int64_t waiting() const;

  private:
    struct Wish {
        int64_t bytes;
        Clock::time_point due;
        std::function<bool()> stopped;
        std::function<void(Answer)> answered;
    };
    void attend();

    const int64_t most_;
    const std::chrono::milliseconds patience_;
    mutable std::mutex mutex_;
    std::condition_variable wake_;
    std::deque<Wish> wishes_;
    int64_t taken_ = 0;
    bool ending_ = false;
    std::thread attendant_;
};

}  // namespace internvl
