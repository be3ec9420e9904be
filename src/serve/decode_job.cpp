#include "serve/decode_job.h"

#include <algorithm>
#include <cstring>
#include <exception>

#include "base/clock.h"
#include "media/decode.h"
#include "media/media_fault.h"

namespace internvl {
namespace {

using Kind = DecodeJob::Kind;
using State = DecodeOutcome::State;

[[noreturn]] void damaged(const char* what) {
    throw MediaFault(MediaFault::Kind::damaged, what);
}

void check_size(int width, int height, const DecodeJob& job) {
    if (width != job.width || height != job.height) damaged("another size than promised");
}

// Both give the milliseconds that they spent on tiles.
double decode_picture(const DecodeJob& job, std::span<const uint8_t> encoded,
                      std::span<uint8_t> out) {
    Image image = decode_image(encoded, job.image_limits, "");
    if (job.exif_rotate) image = oriented(std::move(image), exif_orientation(encoded));
    check_size(image.width, image.height, job);
    const Stopwatch watch;
    const Tiles tiles = cut_tiles(image, job.tiles);
    if (tiles.rgb.size() != out.size()) damaged("another number of tiles than promised");
    std::memcpy(out.data(), tiles.rgb.data(), out.size());
    return watch.ms();
}

double decode_clip(const DecodeJob& job, std::span<const uint8_t> encoded, std::span<uint8_t> out) {
    const VideoFile video(encoded, job.video_limits, "");
    check_size(video.width(), video.height(), job);
    const size_t frame_bytes = out.size() / job.indices.size();
    double spent = 0;
    video.decode(job.indices, nullptr, [&](int64_t index, const Image& frame) {
        const Stopwatch watch;
        const Tiles tiles = cut_tiles(frame, job.tiles);
        const auto place = std::ranges::lower_bound(job.indices, index) - job.indices.begin();
        if (tiles.rgb.size() != frame_bytes) damaged("another number of tiles than promised");
        std::memcpy(&out[size_t(place) * frame_bytes], tiles.rgb.data(), frame_bytes);
        spent += watch.ms();
    });
    return spent;
}

DecodeOutcome read_clip_header(const DecodeJob& job, std::span<const uint8_t> encoded) {
    const VideoFile video(encoded, job.video_limits, "");
    return {State::done, video.width(), video.height(), video.fps(), video.frame_count()};
}

State state_of(MediaFault::Kind kind) {
    switch (kind) {
        case MediaFault::Kind::unsupported:
            return State::unsupported;
        case MediaFault::Kind::too_large:
            return State::too_large;
        case MediaFault::Kind::damaged:
            break;
    }
    return State::damaged;
}

}  // namespace

int64_t DecodeJob::tile_bytes() const {
    if (kind == Kind::clip_header) return 0;
    const int64_t frames = kind == Kind::clip ? int64_t(indices.size()) : 1;
    return frames * count_tiles(width, height, tiles) * tiles.side * tiles.side * 3;
}

DecodeOutcome run_job(const DecodeJob& job, std::span<const uint8_t> encoded,
                      std::span<uint8_t> tiles) {
    DecodeOutcome outcome;
    try {
        if (job.kind == Kind::clip_header) return read_clip_header(job, encoded);
        const auto decode = job.kind == Kind::picture ? decode_picture : decode_clip;
        outcome.resize_ms = decode(job, encoded, tiles);
        outcome.state = State::done;
    } catch (const MediaFault& fault) {
        outcome.state = state_of(fault.kind);
    } catch (const std::bad_alloc&) {
        outcome.state = State::too_large;
    } catch (const std::exception&) {
        outcome.state = State::damaged;
    }
    return outcome;
}

}  // namespace internvl
