#include "base/parallel.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <thread>
#include <utility>
#include <vector>

#include "base/cpu.h"

#if defined(__x86_64__)
#include <immintrin.h>
static void relax() {
    _mm_pause();
}
#else
static void relax() {
    std::this_thread::yield();
}
#endif

namespace internvl {

// Waiting threads look for work for a few microseconds, which covers the gap between two operations
// of a forward pass, and then sleep, so that an idle or crowded-out team burns no core.
static constexpr int spins = 2000;

static thread_local bool inside_body = false;

struct ThreadPool::Team {
    std::vector<std::thread> workers;
    std::atomic<uint64_t> round{0};  // counts the jobs opened so far
    std::atomic<bool> stop{false};
    // Who takes part: the number of the job, whether it may still be joined, and how many workers
    // did. A worker that did not get a core before the others were done is not waited for, so that
    // a busy neighbour costs no more than the core it takes.
    std::atomic<uint64_t> gate{0};
    static constexpr uint64_t open = uint64_t(1) << 31, joined = open - 1;

    // The open job. Written before the gate opens, read by those who joined.
    const std::function<void(int64_t, int64_t, int)>* body = nullptr;
    int64_t count = 0, grain = 1;
    std::atomic<int64_t> next{0};
    std::mutex error_mutex;
    std::exception_ptr error;

    void work(int worker) {
        inside_body = true;
        for (;;) {
            const int64_t begin = next.fetch_add(grain, std::memory_order_relaxed);
            if (begin >= count) break;
            try {
                (*body)(begin, std::min(begin + grain, count), worker);
            } catch (...) {
                const std::lock_guard lock(error_mutex);
                if (!error) error = std::current_exception();
                next.store(count, std::memory_order_relaxed);
            }
        }
        inside_body = false;
    }

    template <class T>
    static void wait_while_equal(std::atomic<T>& value, T old) {
        for (int i = 0; i < spins; ++i) {
            if (value.load(std::memory_order_acquire) != old) return;
            relax();
        }
        while (value.load(std::memory_order_acquire) == old)
            value.wait(old, std::memory_order_acquire);
    }

    void serve(int worker) {
        uint64_t seen = 0;
        for (;;) {
            wait_while_equal(round, seen);
            seen = round.load(std::memory_order_acquire);
            if (stop.load(std::memory_order_relaxed)) return;
            if (!join(seen)) continue;
            work(worker);
            if (gate.fetch_sub(1, std::memory_order_acq_rel) % open == 1) gate.notify_one();
        }
    }

    bool join(uint64_t job) {
        uint64_t seen = gate.load(std::memory_order_acquire);
        do {
            if (seen >> 32 != job % (uint64_t(1) << 32) || !(seen & open)) return false;
        } while (!gate.compare_exchange_weak(seen, seen + 1, std::memory_order_acq_rel));
        return true;
    }

    void open_gate() {
        const uint64_t job = round.load(std::memory_order_relaxed) + 1;
        gate.store(job << 32 | open, std::memory_order_release);
        round.store(job, std::memory_order_release);
        round.notify_all();
    }

    // Lets nobody else in, and waits for those who are.
    void close_gate() {
        uint64_t seen = gate.fetch_and(~open, std::memory_order_acq_rel) & ~open;
        for (; (seen & joined) != 0; seen = gate.load(std::memory_order_acquire))
            wait_while_equal(gate, seen);
    }
};

ThreadPool::ThreadPool(int threads)
    : threads_(std::max(1, threads)), team_(std::make_unique<Team>()) {
    for (int i = 1; i < threads_; ++i)
        team_->workers.emplace_back([team = team_.get(), i, threads] {
            stay_home(threads);
            team->serve(i);
        });
}

ThreadPool::~ThreadPool() {
    team_->stop = true;
    team_->round.fetch_add(1, std::memory_order_release);
    team_->round.notify_all();
    for (auto& worker : team_->workers) worker.join();
}

void ThreadPool::parallel_for(int64_t count, int64_t grain,
                              const std::function<void(int64_t, int64_t, int)>& body) {
    if (count <= 0) return;
    grain = std::max<int64_t>(1, grain);
    if (threads_ == 1 || count <= grain || inside_body) {
        for (int64_t begin = 0; begin < count; begin += grain)
            body(begin, std::min(begin + grain, count), 0);
        return;
    }
    Team& team = *team_;
    team.body = &body;
    team.count = count;
    team.grain = grain;
    team.next.store(0, std::memory_order_relaxed);
    team.open_gate();
    team.work(0);
    team.close_gate();
    if (team.error) std::rethrow_exception(std::exchange(team.error, nullptr));
}

}  // namespace internvl
