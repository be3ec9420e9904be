#pragma once
#include <condition_variable>
#include <mutex>
#include <thread>

#include "engine/step_loop.h"

namespace internvl {

// Too many wait, or one would have to wait for too long.
struct QueueFull : Error {
    QueueFull(const std::string& what, const std::string& expected, const std::string& found,
              double seconds)
        : Error(what, expected, found), wait_s(seconds) {}
    double wait_s;  // estimated for one that comes now, until it has its turn
};

// The one thread that computes, and its letter box. All functions may be called from any thread and
// wait for no computation. Callbacks of a Generation are heard on the engine's thread; they must
// not block. Nobody else may compute with the engine meanwhile. Nothing that goes wrong in a step
// leaves that thread: it ends the answers concerned.
class EngineThread {
  public:
    EngineThread(Engine&, const LoopOptions&);
    ~EngineThread();  // ends what has not ended as cancelled

    // A place in the queue for a request that is still being prepared (its pictures are decoded);
    // it is given up when the last copy dies.
    using Place = std::shared_ptr<void>;
    Place reserve();  // throws QueueFull
    // Seconds that a request that comes now would wait for its turn.
    double estimated_wait_s() const;

    // -> its number. With a place, never refused for the queue's sake. Throws QueueFull and what
    // StepLoop::check throws. Digests the tiles of `unseen` unless `unseen_keys` is given, which
    // takes about a millisecond each.
    uint64_t submit(Generation, Place = {});
    // Takes effect before the next step; unknown numbers are those of answers that have ended.
    void cancel(uint64_t);
    void cancel_all();

    LoopStatus status() const;  // of the last step's end, with what has arrived since
    // For how long there has been work and no step has ended; 0 while idle.
    double stalled_s() const;

  private:
    struct Letter {
        uint64_t id;
        std::optional<Generation> add;  // else cancel; id 0: all
    };
    void run();
    void open(Letter&);
    bool step();
    void check_queue() const;

    LoopOptions options_;
    StepLoop loop_;
    mutable std::mutex mutex_;  // of all that follows
    std::condition_variable wake_;
    std::vector<Letter> letters_;
    LoopStatus status_;
    int arriving_ = 0;  // added, not in status_ yet
    uint64_t last_id_ = 0;
    bool working_ = false, stop_ = false;
    StepLoop::Clock::time_point since_ = {};  // there is work
    // Of requests in preparation; outlives those.
    std::shared_ptr<std::atomic<int>> reserved_ = std::make_shared<std::atomic<int>>(0);
    std::thread thread_;  // the last: it uses all of the above
};

}  // namespace internvl
