#include "serve/media_fetch.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <future>

#include "media/decode.h"
#include "media/frame_index.h"
#include "media/media_fault.h"
#include "serve/decode_request.h"

namespace internvl {
namespace {

MediaFailure failure_of(MediaFault::Kind kind) {
    switch (kind) {
        case MediaFault::Kind::unsupported:
            return MediaFailure::unsupported;
        case MediaFault::Kind::too_large:
            return MediaFailure::too_large;
        case MediaFault::Kind::damaged:
            break;
    }
    return MediaFailure::damaged;
}

std::span<const uint8_t> bytes_of(const FetchedMedia& media) {
    return {reinterpret_cast<const uint8_t*>(media.bytes->data()), media.bytes->size()};
}

}  // namespace

MediaFetch::MediaFetch(std::vector<MediaPart> parts, MediaSources sources, Means means, Done done)
    : parts_(std::move(parts)),
      sources_(std::move(sources)),
      means_(means),
      done_(std::move(done)),
      results_(parts_.size()) {}

void MediaFetch::start() {
    const auto at_once = std::min(parts_.size(), size_t(sources_.limits->request_fetches));
    const std::lock_guard lock(mutex_);
    while (running_ < at_once) post_next();
}

// With the lock held. The tasks keep this object alive.
void MediaFetch::post_next() {
    const size_t part = next_++;
    ++running_;
    TaskTeam& team = is_remote(parts_[part]) ? means_.remote : means_.local;
    team.post([self = shared_from_this(), part] { self->run(part); });
}

void MediaFetch::run(size_t part) {
    std::optional<MediaError> error;
    FetchedMedia media;
    try {
        media = load(parts_[part]);
    } catch (const MediaRefused& refused) {
        error = refused.error;
    } catch (const std::exception&) {  // memory
        error = media_error(parts_[part], MediaFailure::internal);
    }
    {
        const std::lock_guard lock(mutex_);
        if (!error && !media.is_video()) pixels_ += int64_t(media.width) * media.height;
        if (!error && pixels_ > sources_.limits->request_pixels)
            error = media_error(parts_[part], MediaFailure::too_large,
                                fmt::format("the pictures of the request have too many pixels; at "
                                            "most {} together",
                                            sources_.limits->request_pixels));
        if (!error) results_[part] = std::move(media);
        if (error && !error_) error_ = std::move(error);
        if (error_) sources_.cancel.cancel();  // the others need not come any more
    }
    finish_part();
}

void MediaFetch::finish_part() {
    {
        const std::lock_guard lock(mutex_);
        --running_;
        const bool more = !error_ && next_ < parts_.size();
        if (more) post_next();
        if (running_ > 0) return;
    }
    if (error_) return done_(std::move(*error_));
    std::vector<FetchedMedia> all;
    for (auto& result : results_) all.push_back(std::move(*result));
    done_(std::move(all));
}

FetchedMedia MediaFetch::load(MediaPart& part) {
    if (sources_.cancel.cancelled()) throw MediaRefused(media_error(part, MediaFailure::cancelled));
    FetchedMedia media;
    media.bytes = sources_.read(part);
    part.url = {};  // may be as large as what it held
    media.part = part;
    media.is_video() ? read_video(media) : read_picture(media);
    return media;
}

void MediaFetch::read_picture(FetchedMedia& media) const {
    try {
        const ImageHeader header =
            read_image_header(bytes_of(media), image_limits(*sources_.limits), "");
        media.width = header.width;
        media.height = header.height;
    } catch (const MediaFault& fault) {
        // Our own words, from our own reading: no library has seen the file.
        throw MediaRefused(media_error(media.part, failure_of(fault.kind), fault.what()));
    }
    const bool turned = media.part.image.exif_rotate && exif_orientation(bytes_of(media)) >= 5;
    if (turned) std::swap(media.width, media.height);
}

// A clip's header is a library's matter, so a worker reads it.
void MediaFetch::read_video(FetchedMedia& media) const {
    std::promise<JobEnd> promise;
    MediaTask task;
    task.job.kind = DecodeJob::Kind::clip_header;
    task.job.encoded_bytes = int64_t(media.bytes->size());
    task.job.video_limits = video_limits(*sources_.limits);
    task.bytes = media.bytes;
    task.cpu = sources_.limits->video_cpu;
    task.stopped = [cancel = sources_.cancel] { return cancel.cancelled(); };
    task.done = [&](JobEnd end) { promise.set_value(std::move(end)); };
    means_.workers.submit(std::move(task));
    const JobEnd end = promise.get_future().get();
    if (const auto error = error_of(media.part, end, *sources_.limits)) throw MediaRefused(*error);
    const DecodeOutcome& clip = end.outcome;
    // The worker is not believed, either.
    const auto [height, width] = std::minmax(clip.width, clip.height);
    const MediaLimits& limits = *sources_.limits;
    if (height < 1 || width > limits.video_width || height > limits.video_height ||
        !(clip.fps > 0) || clip.fps > limits.video_rate || clip.frame_count < 1 ||
        clip.frame_count > limits.video_frames)
        throw MediaRefused(media_error(media.part, MediaFailure::too_large, video_bounds(limits)));
    media.width = clip.width;
    media.height = clip.height;
    media.fps = clip.fps;
    media.frame_count = clip.frame_count;
    choose_frames(media);
}

// api.md 2.2: by number, or by frames a second; then the card's formula.
void MediaFetch::choose_frames(FetchedMedia& media) const {
    const VideoOptions& video = media.part.video;
    FrameOptions frames{.num_segments = video.num_segments, .bound = video.bound};
    const int most = sources_.limits->max_frames;
    if (media.part.fps) {
        const double last = double(media.frame_count) / media.fps;
        const auto [start, end] = video.bound.value_or(std::pair(0.0, last));
        const double wanted = std::nearbyint((std::min(end, last) - start) * *media.part.fps);
        frames.num_segments = int(std::clamp(wanted, 1.0, double(most)));
    }
    frames.num_segments = std::clamp(frames.num_segments, 1, most);
    media.indices = frame_indices(frames, media.fps, media.frame_count);
    for (int64_t& index : media.indices)
        index = std::clamp<int64_t>(index, 0, media.frame_count - 1);
}

}  // namespace internvl
