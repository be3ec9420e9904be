#include "engine/engine_thread.h"

#include <fmt/format.h>

#include <utility>

#include "base/log.h"

namespace internvl {

// Nobody else uses the engine meanwhile: the cache is the loop's, and as large as was asked for.
static LoopOptions with_own_cache(LoopOptions options) {
    options.own_cache = true;
    return options;
}

EngineThread::EngineThread(Engine& engine, const LoopOptions& options)
    : options_(options),
      loop_(engine, with_own_cache(options)),
      status_(loop_.status()),
      thread_([this] { run(); }) {}

EngineThread::~EngineThread() {
    {
        const std::lock_guard lock(mutex_);
        stop_ = true;
    }
    wake_.notify_one();
    thread_.join();
}

// Those that a free seat waits for do not wait.
void EngineThread::check_queue() const {
    const int waiting = status_.waiting + arriving_ + *reserved_ - status_.free_seats;
    if (options_.max_queue > 0 && waiting >= options_.max_queue)
        throw QueueFull("too many requests wait", fmt::format("at most {}", options_.max_queue),
                        fmt::format("{}", waiting), status_.wait_s);
    if (options_.max_queue_s > 0 && status_.wait_s > options_.max_queue_s)
        throw QueueFull("a request would have to wait for too long",
                        fmt::format("at most {:.0f} s", options_.max_queue_s),
                        fmt::format("{:.0f} s", status_.wait_s), status_.wait_s);
}

EngineThread::Place EngineThread::reserve() {
    const std::lock_guard lock(mutex_);
    check_queue();
    ++*reserved_;
    return {reserved_.get(), [count = reserved_](void*) { --*count; }};
}

double EngineThread::estimated_wait_s() const {
    const std::lock_guard lock(mutex_);
    return status_.wait_s;
}

uint64_t EngineThread::submit(Generation g, Place place) {
    loop_.check(g);
    if (g.unseen_keys.empty())
        for (const auto& picture : g.unseen)
            for (int t = 0; t < picture->count; ++t) g.unseen_keys.push_back(tile_key(*picture, t));
    uint64_t id;
    {
        const std::lock_guard lock(mutex_);
        if (!place) check_queue();
        id = ++last_id_;
        if (!working_ && letters_.empty()) since_ = StepLoop::Clock::now();
        ++arriving_;
        place.reset();
        letters_.push_back({id, std::move(g)});
    }
    wake_.notify_one();
    return id;
}

void EngineThread::cancel(uint64_t id) {
    {
        const std::lock_guard lock(mutex_);
        letters_.push_back({id, {}});
    }
    wake_.notify_one();
}

void EngineThread::cancel_all() {
    cancel(0);
}

LoopStatus EngineThread::status() const {
    const std::lock_guard lock(mutex_);
    LoopStatus s = status_;
    s.waiting += arriving_;
    return s;
}

double EngineThread::stalled_s() const {
    const std::lock_guard lock(mutex_);
    if (!working_ && letters_.empty()) return 0;
    const auto last = std::max(since_, status_.last_step);
    return std::chrono::duration<double>(StepLoop::Clock::now() - last).count();
}

// A listener that throws must not end the others' answers.
static void guard(std::function<void(Answer)>& on_end) {
    if (!on_end) return;
    on_end = [heard = std::move(on_end)](Answer a) {
        try {
            heard(std::move(a));
        } catch (const std::exception& e) {
            log_warning("the end of an answer could not be told: {}", e.what());
        }
    };
}

void EngineThread::open(Letter& letter) {
    if (!letter.add) return letter.id == 0 ? loop_.cancel_all() : loop_.cancel(letter.id);
    guard(letter.add->on_end);
    const auto on_end = letter.add->on_end;
    try {
        loop_.add(std::move(*letter.add), letter.id);
    } catch (...) {
        Answer answer;
        answer.end = Answer::End::failed;
        answer.error = std::current_exception();
        if (on_end) on_end(std::move(answer));
    }
}

// Steps end what goes wrong in them; this is for the rest, such as memory for their bookkeeping.
bool EngineThread::step() {
    try {
        return loop_.unfinished() > 0 && loop_.step();
    } catch (const std::exception& e) {
        log_warning("a step failed: {}", e.what());
        loop_.fail_all(std::current_exception());
        return false;
    }
}

void EngineThread::run() {
    std::unique_lock lock(mutex_);
    for (;;) {
        wake_.wait(lock, [this] { return stop_ || working_ || !letters_.empty(); });
        if (stop_) break;
        working_ = true;
        std::vector<Letter> letters = std::exchange(letters_, {});
        lock.unlock();
        int added = 0;
        for (Letter& letter : letters) {
            added += letter.add.has_value();
            open(letter);
        }
        letters.clear();  // what they hold goes without the lock
        const bool more = step();
        const LoopStatus status = loop_.status();
        lock.lock();
        status_ = status;
        arriving_ -= added;
        working_ = more;
    }
    std::vector<Letter> letters = std::exchange(letters_, {});
    lock.unlock();
    for (Letter& letter : letters) open(letter);
    loop_.cancel_all();
}

}  // namespace internvl
