#pragma once
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <vector>

#include "serve/media_loader.h"
#include "serve/media_source.h"
#include "serve/task_team.h"
#include "serve/worker_pool.h"

namespace internvl {

// Inside of the loader: one request's parts on their way from addresses to bytes with checked
// headers, a few at a time.
class MediaFetch : public std::enable_shared_from_this<MediaFetch> {
  public:
    using Done = std::function<void(MediaResult<std::vector<FetchedMedia>>)>;
    struct Means {
        TaskTeam& local;   // for what is here
        TaskTeam& remote;  // for what others may make slow
        WorkerPool& workers;
    };

    MediaFetch(std::vector<MediaPart>, MediaSources, Means, Done);
    void start();

  private:
    void post_next();
    void run(size_t part);
    FetchedMedia load(MediaPart&);
    void read_picture(FetchedMedia&) const;
    void read_video(FetchedMedia&) const;
    void choose_frames(FetchedMedia&) const;
    void finish_part();

    std::vector<MediaPart> parts_;
    MediaSources sources_;
    Means means_;
    Done done_;
    std::mutex mutex_;
    std::vector<std::optional<FetchedMedia>> results_;
    std::optional<MediaError> error_;
    size_t next_ = 0, running_ = 0;
    int64_t pixels_ = 0;  // of all pictures
};

}  // namespace internvl
