#pragma once
#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "serve/worker_process.h"

namespace internvl {

// A job with who waits for it. `stopped` is asked from any thread; `done` is heard once, on a
// thread of the pool's, and must not throw.
struct MediaTask {
    DecodeJob job;
    std::shared_ptr<const std::vector<std::byte>> bytes;
    std::chrono::milliseconds cpu;  // what it may compute
    std::function<bool()> stopped;
    std::function<void(JobEnd)> done;
};

// A few media workers and what waits for them. Headers go before pixels, else in order.
class WorkerPool {
  public:
    struct Options {
        int workers = 1;
        bool sandbox = true;  // false: the jobs are done in this process and cannot be stopped
        int64_t worker_bytes = 0;
        std::string program;
    };
    // Throws Error when no worker can be started.
    explicit WorkerPool(const Options&);
    ~WorkerPool();  // stops what there is

    void submit(MediaTask);
    struct Status {
        int64_t waiting = 0, running = 0, replaced = 0;
        int workers = 0;
        std::vector<int> pids;  // of the workers' processes
    };
    Status status() const;

  private:
    void end();
    void work(size_t slot, const std::function<void(std::string)>& started);
    JobEnd run(WorkerProcess&, const MediaTask&);
    void drop_stopped();  // out of the queue

    Options options_;
    mutable std::mutex mutex_;
    std::condition_variable wake_;
    std::deque<MediaTask> queue_;
    std::vector<int> pids_;
    int64_t running_ = 0, replaced_ = 0;
    std::atomic<bool> ending_ = false;
    std::vector<std::thread> threads_;
};

}  // namespace internvl
