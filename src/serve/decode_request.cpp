#include "serve/decode_request.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <map>

#include "api/data.h"

namespace internvl {

ImageLimits image_limits(const MediaLimits& limits) {
    return {limits.picture_pixels, limits.max_side, limits.picture_bytes};
}

VideoLimits video_limits(const MediaLimits& limits) {
    VideoLimits video;
    // Decoders count what they add at the edges, too; the size itself is checked when it is known.
    constexpr int edge = 128;
    video.max_pixels = int64_t(limits.video_width + edge) * (limits.video_height + edge);
    video.max_side = std::max(limits.video_width, limits.video_height);
    video.max_frames = limits.video_frames;
    video.max_decoded_frames = limits.seek_frames;
    video.max_seconds = limits.video_seconds;
    video.max_fps = limits.video_rate;
    video.steady = true;
    video.common_kinds = true;
    return video;
}

int FetchedMedia::tiles() const {
    const int each = count_tiles(width, height, tile_options(tiling()));
    return is_video() ? each * int(indices.size()) : each;
}

DecodeJob decode_job(const FetchedMedia& media, const MediaLimits& limits) {
    DecodeJob job;
    job.kind = media.is_video() ? DecodeJob::Kind::clip : DecodeJob::Kind::picture;
    job.encoded_bytes = int64_t(media.bytes->size());
    job.width = media.width;
    job.height = media.height;
    job.tiles = tile_options(media.tiling());
    job.exif_rotate = !media.is_video() && media.part.image.exif_rotate;
    job.indices = media.indices;
    std::ranges::sort(job.indices);
    job.indices.erase(std::unique(job.indices.begin(), job.indices.end()), job.indices.end());
    job.image_limits = image_limits(limits);
    job.video_limits = video_limits(limits);
    return job;
}

DecodeCost decode_cost(const DecodeJob& job) {
    return {job.tile_bytes(), int64_t(job.width) * job.height * 3};
}

std::string video_bounds(const MediaLimits& limits) {
    return fmt::format(
        "the video is beyond the limits; at most {}x{} pixels, {} s, {} frames a second, {} frames "
        "in the file and {} to decode",
        limits.video_width, limits.video_height, limits.video_seconds, limits.video_rate,
        limits.video_frames, limits.seek_frames);
}

std::optional<MediaError> error_of(const MediaPart& part, const JobEnd& end,
                                   const MediaLimits& limits) {
    using How = JobEnd::How;
    using State = DecodeOutcome::State;
    const bool video = part.kind == MediaPart::Kind::video;
    switch (end.how) {
        case How::stopped:
            return media_error(part, MediaFailure::cancelled);
        case How::not_started:
            return media_error(part, MediaFailure::internal);
        case How::too_slow: {
            const auto most = video ? limits.video_cpu : limits.picture_cpu;
            return media_error(part, MediaFailure::too_slow,
                               fmt::format("decoding the % takes longer than {} s",
                                           std::chrono::duration<double>(most).count()));
        }
        case How::died:
            return media_error(part, MediaFailure::damaged);
        case How::answered:
            break;
    }
    switch (end.outcome.state) {
        case State::done:
            return std::nullopt;
        case State::unsupported:
            return media_error(part, MediaFailure::unsupported,
                               video ? "the format of the % is not supported; expected MP4, MOV, "
                                       "WebM, Matroska, AVI or GIF with H.264, HEVC, VP8, VP9, "
                                       "AV1, MPEG-4, MJPEG or GIF"
                                     : "this kind of % is not supported");
        case State::too_large:
            return media_error(part, MediaFailure::too_large, video ? video_bounds(limits) : "");
        case State::damaged:
            break;
    }
    return media_error(part, MediaFailure::damaged);
}

LoadedMedia loaded_media(const FetchedMedia& media, const DecodeJob& job, std::vector<uint8_t> rgb,
                         const std::function<std::shared_ptr<const Tiles>(Tiles)>& adopt) {
    const Grid grid = choose_grid(job.width, job.height, job.tiles);
    const int count = count_tiles(job.width, job.height, job.tiles);
    if (job.kind == DecodeJob::Kind::picture)
        return LoadedPicture{job.width, job.height, grid,
                             adopt({grid, count, job.tiles.side, std::move(rgb)}), 0};
    const size_t frame_bytes = rgb.size() / job.indices.size();
    std::map<int64_t, std::shared_ptr<const Tiles>> frames;
    for (size_t i = 0; i < job.indices.size(); ++i) {
        const auto begin = rgb.begin() + ptrdiff_t(i * frame_bytes);
        frames[job.indices[i]] =
            adopt({grid, count, job.tiles.side, {begin, begin + ptrdiff_t(frame_bytes)}});
    }
    LoadedVideo video{media.fps, media.frame_count, media.indices, {}, 0};
    for (const int64_t index : media.indices) video.frames.push_back(frames.at(index));
    return video;
}

}  // namespace internvl
