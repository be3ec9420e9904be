#include "serve/worker_pool.h"

#include <algorithm>
#include <future>
#include <optional>

#include "base/error.h"

namespace internvl {
namespace {

using How = JobEnd::How;

JobEnd run_here(const MediaTask& task) {
    JobEnd end{How::answered};
    try {
        end.tiles.resize(size_t(task.job.tile_bytes()));
        const std::span encoded(reinterpret_cast<const uint8_t*>(task.bytes->data()),
                                task.bytes->size());
        end.outcome = run_job(task.job, encoded, end.tiles);
    } catch (const std::exception&) {
        end.how = How::not_started;
    }
    return end;
}

}  // namespace

WorkerPool::WorkerPool(const Options& options) : options_(options), pids_(size_t(options.workers)) {
    std::promise<std::string> first;
    for (size_t slot = 0; slot < pids_.size(); ++slot)
        threads_.emplace_back([this, slot, &first] {
            work(slot, [&, slot](std::string error) {
                if (slot == 0) first.set_value(std::move(error));
            });
        });
    if (const std::string error = first.get_future().get(); !error.empty()) {
        end();
        throw Error(error);
    }
}

WorkerPool::~WorkerPool() {
    end();
    for (MediaTask& task : queue_) task.done({How::stopped});
}

void WorkerPool::end() {
    {
        const std::lock_guard lock(mutex_);
        ending_ = true;
    }
    wake_.notify_all();
    for (std::thread& thread : threads_) thread.join();
}

void WorkerPool::submit(MediaTask task) {
    {
        const std::lock_guard lock(mutex_);
        const auto pixels = [](const MediaTask& t) {
            return t.job.kind != DecodeJob::Kind::clip_header;
        };
        const auto place = pixels(task) ? queue_.end() : std::ranges::find_if(queue_, pixels);
        queue_.insert(place, std::move(task));
    }
    wake_.notify_one();
}

void WorkerPool::drop_stopped() {
    std::vector<MediaTask> dropped;
    {
        const std::lock_guard lock(mutex_);
        const auto kept = std::stable_partition(queue_.begin(), queue_.end(),
                                                [](const MediaTask& t) { return !t.stopped(); });
        std::move(kept, queue_.end(), std::back_inserter(dropped));
        queue_.erase(kept, queue_.end());
    }
    for (MediaTask& task : dropped) task.done({How::stopped});
}

WorkerPool::Status WorkerPool::status() const {
    const std::lock_guard lock(mutex_);
    Status status{int64_t(queue_.size()), running_, replaced_, 0, {}};
    for (const int pid : pids_)
        if (pid != 0) status.pids.push_back(pid);
    status.workers = options_.sandbox ? int(status.pids.size()) : options_.workers;
    return status;
}

JobEnd WorkerPool::run(WorkerProcess& worker, const MediaTask& task) {
    const auto stopped = [&] {
        drop_stopped();  // whoever waits behind this job need not wait for its end
        return ending_ || task.stopped();
    };
    if (stopped()) return {How::stopped};
    if (!options_.sandbox) return run_here(task);
    try {
        return worker.run(task.job, *task.bytes, task.cpu, stopped);
    } catch (const std::exception&) {  // no memory
        return {How::not_started};
    }
}

void WorkerPool::work(size_t slot, const std::function<void(std::string)>& started) {
    WorkerProcess worker(options_.program, options_.worker_bytes);
    const auto ready = [&] {  // a worker before it is needed
        std::string error;
        try {
            if (options_.sandbox && !ending_) worker.start();
        } catch (const Error& e) {
            error = e.what();  // the job that comes tries again
        }
        const std::lock_guard lock(mutex_);
        pids_[slot] = worker.pid();
        return error;
    };
    started(ready());
    std::unique_lock lock(mutex_);
    for (;;) {
        wake_.wait(lock, [&] { return ending_ || !queue_.empty(); });
        if (ending_) return;
        MediaTask task = std::move(queue_.front());
        queue_.pop_front();
        ++running_;
        lock.unlock();
        const int pid = worker.pid();
        JobEnd end = run(worker, task);
        const bool lost = worker.pid() != pid && pid != 0;
        lock.lock();
        --running_;
        replaced_ += lost;
        pids_[slot] = worker.pid();
        lock.unlock();
        task.done(std::move(end));
        task = {};
        ready();
        lock.lock();
    }
}

}  // namespace internvl
