#pragma once
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

#include "engine/step_loop.h"

namespace internvl {

// The one thread that computes, and its letter box. All functions may be called from any thread and
// wait for no computation. Callbacks of a Generation are heard on the engine's thread; they must
// not block. Nothing that goes wrong in a step leaves this thread: it ends the answers concerned.
class EngineThread {
  public:
    EngineThread(Engine&, const LoopOptions&);
    ~EngineThread();  // ends what has not ended as cancelled

    // A place in the queue for a request that is still being prepared (its pictures decoded).
    class Place {
      public:
        Place() = default;
        explicit operator bool() const { return bool(held_); }

      private:
        friend class EngineThread;
        std::shared_ptr<void> held_;
    };
    // For a request of so many prompt tokens and tiles. Throws QueueFull, which tells the wait.
    Place reserve(int64_t prompt, int64_t tiles);
    // Seconds that a request that comes now would wait for its turn.
    double estimated_wait() const;

    // -> its number. With a place, never refused for the queue's sake. Throws Error for a prompt
    // that does not fit and for options out of range, QueueFull. Digests the tiles of `unseen`
    // unless `unseen_keys` is given: about a millisecond each.
    uint64_t submit(Generation, Place = {});
    // Takes effect before the next step; unknown numbers are those of answers that have ended.
    void cancel(uint64_t);

    LoopStatus status() const;  // of the last step's end
    // Since when there is work and no step has ended; 0 while idle.
    double stalled_ms() const;
};

}  // namespace internvl
