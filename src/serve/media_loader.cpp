#include "serve/media_loader.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <map>
#include <mutex>
#include <optional>

#include "base/cpu.h"
#include "serve/decode_request.h"
#include "serve/decode_room.h"
#include "serve/media_fetch.h"

namespace internvl {
namespace {

// Threads that wait for other people's servers: so many that a few dozen slow ones hold up nobody.
constexpr int remote_threads = 256, local_threads = 16;

using FetchDone = std::function<void(MediaResult<std::vector<FetchedMedia>>)>;
using DecodeDone = std::function<void(MediaResult<std::vector<LoadedMedia>>)>;

// One request's media on their way to tiles.
class Decoding : public std::enable_shared_from_this<Decoding> {
  public:
    Decoding(std::vector<FetchedMedia> media, const MediaLimits& limits, CancelToken cancel,
             std::shared_ptr<DecodeRoom> room, WorkerPool& workers, DecodeDone done)
        : media_(std::move(media)),
          limits_(limits),
          cancel_(std::move(cancel)),
          room_(std::move(room)),
          workers_(workers),
          done_(std::move(done)) {}

    void start() {
        int64_t bytes = 0;
        for (const FetchedMedia& one : media_) {
            jobs_.push_back(decode_job(one, limits_));
            const DecodeCost cost = decode_cost(jobs_.back());
            bytes += cost.tiles + cost.pixels;
        }
        loaded_.resize(media_.size());
        left_ = media_.size();
        room_->ask(
            bytes, [self = shared_from_this()] { return self->cancel_.cancelled(); },
            [self = shared_from_this()](DecodeRoom::Answer answer) { self->on_room(answer); });
    }

  private:
    void on_room(DecodeRoom::Answer answer) {
        const MediaPart none;
        const MediaPart& first = media_.empty() ? none : media_.front().part;
        if (answer == DecodeRoom::Answer::stopped)
            return done_(media_error(first, MediaFailure::cancelled));
        if (answer == DecodeRoom::Answer::no_room)
            return done_(media_error(first, MediaFailure::no_room));
        if (media_.empty()) return finish();
        for (size_t i = 0; i < jobs_.size(); ++i) {
            MediaTask task;
            task.job = jobs_[i];
            task.bytes = media_[i].bytes;
            task.cpu = media_[i].is_video() ? limits_.video_cpu : limits_.picture_cpu;
            task.stopped = [self = shared_from_this()] { return self->cancel_.cancelled(); };
            task.done = [self = shared_from_this(), i](JobEnd end) {
                self->on_job(i, std::move(end));
            };
            workers_.submit(std::move(task));
        }
    }

    void on_job(size_t i, JobEnd end) {
        const DecodeCost cost = decode_cost(jobs_[i]);
        auto error = error_of(media_[i].part, end, limits_);
        int64_t adopted = 0;  // bytes, which their holders give back
        try {
            if (!error) {
                loaded_[i] =
                    loaded_media(media_[i], jobs_[i], std::move(end.tiles), [&](Tiles tiles) {
                        auto held = adopt(std::move(tiles));
                        adopted += int64_t(held->rgb.size());
                        return held;
                    });
                std::visit([&](auto& one) { one.resize_ms = end.outcome.resize_ms; }, *loaded_[i]);
            }
        } catch (const std::bad_alloc&) {
            error = media_error(media_[i].part, MediaFailure::internal);
        }
        room_->give_back(cost.pixels + cost.tiles - adopted);
        bool last;
        {
            const std::lock_guard lock(mutex_);
            // What failed by itself goes before what was stopped because of it.
            const bool cause = error && (!error_ || error_->code == "cancelled");
            if (cause) error_ = std::move(error);
            if (error_) cancel_.cancel();
            last = --left_ == 0;
        }
        if (last) finish();
    }

    // Tiles whose room is given back when the last who holds them lets go.
    std::shared_ptr<const Tiles> adopt(Tiles tiles) const {
        const int64_t bytes = int64_t(tiles.rgb.size());
        return {new Tiles(std::move(tiles)), [room = room_, bytes](const Tiles* held) {
                    delete held;
                    room->give_back(bytes);
                }};
    }

    void finish() {
        std::vector<LoadedMedia> all;
        for (auto& one : loaded_)
            if (one) all.push_back(std::move(*one));
        loaded_.clear();
        if (!error_) return done_(std::move(all));
        all.clear();
        done_(std::move(*error_));
    }

    const std::vector<FetchedMedia> media_;
    const MediaLimits& limits_;
    const CancelToken cancel_;  // of this request's decoding; also when one part fails
    const std::shared_ptr<DecodeRoom> room_;
    WorkerPool& workers_;
    const DecodeDone done_;
    std::vector<DecodeJob> jobs_;
    std::vector<std::optional<LoadedMedia>> loaded_;
    std::mutex mutex_;
    size_t left_ = 0;
    std::optional<MediaError> error_;
};

}  // namespace

struct MediaLoader::State {
    MediaLimits limits;
    std::unique_ptr<RootedFolder> files;
    std::shared_ptr<DecodeRoom> room;
    std::shared_ptr<ByteBudget> fetched;
    WorkerPool workers;
    TaskTeam local{local_threads}, remote{remote_threads};
    mutable std::mutex mutex;
    std::condition_variable quiet;
    std::map<uint64_t, CancelToken> active;
    uint64_t next = 0;
    std::atomic<int64_t> fetching = 0, decoding = 0;  // parts

    explicit State(const MediaLimits& l)
        : limits(l),
          files(l.media_root.empty() ? nullptr : std::make_unique<RootedFolder>(l.media_root)),
          room(std::make_shared<DecodeRoom>(l.decoded_bytes, l.decoded_wait)),
          fetched(std::make_shared<ByteBudget>(l.fetched_bytes)),
          workers({.workers = l.workers > 0 ? l.workers : std::clamp(usable_cores(), 1, 4),
                   .sandbox = l.sandbox,
                   .worker_bytes = l.worker_bytes,
                   .program = l.worker_program}) {}

    ~State() {
        std::unique_lock lock(mutex);
        for (const auto& [id, token] : active) token.cancel();
        quiet.wait(lock, [&] { return active.empty(); });
        lock.unlock();
        room->close();
    }

    // `done` with the bookkeeping of `parts` parts around it.
    template <class Result>
    std::function<void(Result)> tracked(std::function<void(Result)> done, const CancelToken& cancel,
                                        std::atomic<int64_t>& count, int64_t parts) {
        const std::lock_guard lock(mutex);
        const uint64_t id = next++;
        active.emplace(id, cancel);
        count += parts;
        return [this, id, parts, &count, done = std::move(done)](Result result) {
            count -= parts;
            done(std::move(result));
            const std::lock_guard again(mutex);
            active.erase(id);
            quiet.notify_all();
        };
    }
};

MediaLoader::MediaLoader(const MediaLimits& limits) : state_(std::make_unique<State>(limits)) {}

MediaLoader::~MediaLoader() = default;

void MediaLoader::fetch(std::vector<MediaPart> parts, bool may_read_files, CancelToken cancel,
                        FetchDone done) {
    State& s = *state_;
    done = s.tracked(std::move(done), cancel, s.fetching, int64_t(parts.size()));
    if (parts.empty()) return done(std::vector<FetchedMedia>());
    const MediaPart first = {.kind = parts[0].kind, .param = parts[0].param};
    MediaSources sources;
    sources.limits = &s.limits;
    sources.fetched = s.fetched;
    sources.files = s.files.get();
    sources.may_read_files = may_read_files;
    sources.deadline = std::chrono::steady_clock::now() + s.limits.request_fetch;
    sources.cancel = cancel.linked();
    const auto request =
        std::make_shared<MediaFetch>(std::move(parts), std::move(sources),
                                     MediaFetch::Means{s.local, s.remote, s.workers}, done);
    try {
        request->start();
    } catch (const std::exception&) {  // no threads, no memory
        done(media_error(first, MediaFailure::internal));
    }
}

void MediaLoader::decode(std::vector<FetchedMedia> media, CancelToken cancel, DecodeDone done) {
    State& s = *state_;
    done = s.tracked(std::move(done), cancel, s.decoding, int64_t(media.size()));
    const MediaPart first = media.empty() ? MediaPart() : media[0].part;
    const auto request = std::make_shared<Decoding>(std::move(media), s.limits, cancel.linked(),
                                                    s.room, s.workers, done);
    try {
        request->start();
    } catch (const std::exception&) {  // tilings that make no sense, no memory
        done(media_error(first, MediaFailure::internal));
    }
}

MediaLoader::Status MediaLoader::status() const {
    const State& s = *state_;
    const WorkerPool::Status workers = s.workers.status();
    Status status;
    status.fetching = s.fetching;
    status.decoding = s.decoding;
    status.waiting = s.room->waiting() + workers.waiting;
    status.decoded_bytes = s.room->taken();
    status.workers_replaced = workers.replaced;
    status.workers = workers.workers;
    return status;
}

}  // namespace internvl
