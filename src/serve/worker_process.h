#pragma once
#include <sys/types.h>

#include <chrono>
#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "io/descriptor.h"
#include "serve/decode_job.h"

namespace internvl {

// How a worker came to the end of a job.
struct JobEnd {
    enum class How { answered, died, too_slow, stopped, not_started } how = How::died;
    DecodeOutcome outcome = {};       // when answered
    std::vector<uint8_t> tiles = {};  // when done
};

// One media worker, as its parent sees it: started when it is first needed, killed when it takes
// too long or nobody wants its answer any more, and then started anew. For one thread.
class WorkerProcess {
  public:
    WorkerProcess(std::string program, int64_t address_space);
    ~WorkerProcess();
    WorkerProcess(const WorkerProcess&) = delete;
    WorkerProcess& operator=(const WorkerProcess&) = delete;

    // Makes sure that a worker is there and in its sandbox. Throws Error.
    void start();

    // `cpu`: what the worker may compute. `stopped` is asked every 20 ms.
    JobEnd run(const DecodeJob&, std::span<const std::byte> encoded, std::chrono::milliseconds cpu,
               const std::function<bool()>& stopped);

    pid_t pid() const { return pid_; }  // 0: none

  private:
    bool alive();
    void kill();
    JobEnd wait(std::chrono::milliseconds cpu, const std::function<bool()>& stopped);

    std::string program_;
    int64_t address_space_;
    pid_t pid_ = 0;
    Descriptor socket_;
};

}  // namespace internvl
