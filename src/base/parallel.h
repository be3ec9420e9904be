#pragma once
#include <cstdint>
#include <functional>
#include <memory>

namespace internvl {

// A fixed team of threads that runs index ranges. The caller takes part, so a team of one has no
// threads at all. Which thread runs which index is not fixed: a body must give the same bits for an
// index wherever it runs. One parallel_for at a time per pool; a call from inside a body runs
// inline on that thread.
class ThreadPool {
  public:
    explicit ThreadPool(int threads);
    ~ThreadPool();
    ThreadPool(const ThreadPool&) = delete;
    ThreadPool& operator=(const ThreadPool&) = delete;

    int threads() const { return threads_; }

    // Calls body(begin, end, worker) on disjoint ranges of at most `grain` indices that cover [0,
    // count). `worker` in [0, threads()) names the thread, for scratch memory. An exception of a
    // body is thrown here, once.
    void parallel_for(int64_t count, int64_t grain,
                      const std::function<void(int64_t begin, int64_t end, int worker)>& body);

  private:
    struct Team;
    int threads_;
    std::unique_ptr<Team> team_;
};

}  // namespace internvl
