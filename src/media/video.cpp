#include "media/video.h"

#include <fmt/format.h>

extern "C" {
#include <libavutil/display.h>
}

#include <algorithm>
#include <cmath>
#include <exception>
#include <mutex>
#include <numeric>

#include "base/error.h"
#include "media/decode.h"
#include "media/demuxer.h"
#include "media/frame_decoder.h"
#include "media/media_fault.h"
#include "media/rgb_converter.h"

namespace internvl {
namespace {

const int32_t* display_matrix(const AVStream& stream) {
#if LIBAVCODEC_VERSION_INT >= AV_VERSION_INT(60, 31, 102)
    const AVPacketSideData* data =
        av_packet_side_data_get(stream.codecpar->coded_side_data,
                                stream.codecpar->nb_coded_side_data, AV_PKT_DATA_DISPLAYMATRIX);
    return data ? reinterpret_cast<const int32_t*>(data->data) : nullptr;
#else
    return reinterpret_cast<const int32_t*>(
        av_stream_get_side_data(&stream, AV_PKT_DATA_DISPLAYMATRIX, nullptr));
#endif
}

// Degrees clockwise. Anything but a quarter turn is ignored, mirroring too, as decord does.
int rotation_of(const AVStream& stream) {
    const int32_t* matrix = display_matrix(stream);
    if (!matrix) return 0;
    const double degrees = -av_display_rotation_get(matrix);
    if (!std::isfinite(degrees)) return 0;
    const int turn = (int(std::lround(degrees)) + 360) % 360;
    return turn % 90 == 0 ? turn : 0;
}

// The EXIF orientation that names the same turn.
int orientation_of(int rotation) {
    return rotation == 90 ? 6 : rotation == 180 ? 3 : rotation == 270 ? 8 : 1;
}

}  // namespace

bool is_video(std::span<const uint8_t> bytes) {
    return container_of(bytes) != nullptr;
}

VideoFile::VideoFile(std::span<const uint8_t> bytes, const VideoLimits& limits,
                     const std::string& where)
    : bytes_(bytes), limits_(limits), where_(where) {
    read_table();
}

// NaN seconds: unknown.
void VideoFile::check_pace(double seconds) const {
    constexpr double unlimited = 1e18;
    const bool limited = limits_.max_fps < unlimited || limits_.max_seconds < unlimited;
    if (limited && (!(fps_ > 0) || !std::isfinite(fps_) || seconds < 0))
        throw MediaFault(MediaFault::Kind::damaged, "the video does not tell its pace",
                         "a rate above 0 and a length", fmt::format("{} per second", fps_), where_);
    if (fps_ > limits_.max_fps || seconds > limits_.max_seconds)
        throw MediaFault(MediaFault::Kind::too_large, "the video is too fast or too long",
                         fmt::format("at most {} frames per second, {} seconds", limits_.max_fps,
                                     limits_.max_seconds),
                         fmt::format("{}, {}", fps_, seconds), where_);
}

void VideoFile::read_table() {
    Demuxer demuxer(bytes_, limits_, where_);
    const AVStream& stream = demuxer.stream();
    width_ = stream.codecpar->width;
    height_ = stream.codecpar->height;
    rotation_ = rotation_of(stream);
    const AVRational average = stream.avg_frame_rate;
    const AVRational rate = average.num && average.den ? average : stream.r_frame_rate;
    fps_ = double(rate.num) / rate.den;
    check_pace(demuxer.seconds());

    const auto packet = owned(av_packet_alloc());
    int64_t latest = AV_NOPTS_VALUE;  // which is less than any time
    int64_t earliest = INT64_MAX;
    while (demuxer.next(*packet)) {
        if (int64_t(packets_.size()) == limits_.max_frames)
            throw MediaFault(MediaFault::Kind::too_large, "the video is too long",
                             fmt::format("at most {} frames", packets_.size()), "more", where_);
        const int64_t time = packet->pts;
        if (time != AV_NOPTS_VALUE) earliest = std::min(earliest, time);
        const bool key = packet->flags & AV_PKT_FLAG_KEY;
        if (key && !packets_.empty() && second_key_ == 0) second_key_ = int64_t(packets_.size());
        // Earlier packets' frames must all be shown before a key frame that we start from.
        if (key && time > latest) starts_.push_back(packets_.size());
        packets_.push_back({time, (packet->flags & AV_PKT_FLAG_DISCARD) != 0});
        latest = std::max(latest, time);
        if (time == AV_NOPTS_VALUE) timed_ = false;
    }
    if (packets_.empty()) demuxer.fail("no frame");
    if (latest != AV_NOPTS_VALUE)
        check_pace((double(latest) - double(earliest)) * av_q2d(stream.time_base));
    check_pace(double(packets_.size()) / fps_);
    order_.resize(packets_.size());
    std::iota(order_.begin(), order_.end(), size_t(0));
    const auto time_of = [&](size_t i) { return packets_[i].time; };
    std::ranges::stable_sort(order_, {}, time_of);
    if (std::ranges::adjacent_find(order_, {}, time_of) != order_.end()) timed_ = false;
    if (second_key_ == 0) second_key_ = frame_count();
    while (hidden_ < frame_count() && packets_[order_[size_t(hidden_)]].hidden) ++hidden_;
}

int64_t VideoFile::absolute(int64_t index) const {
    const int64_t from_start = index < 0 ? index + frame_count() : index;
    if (from_start < 0 || from_start >= frame_count())
        throw Error("there is no such frame in the clip",
                    fmt::format("{} to {}", -frame_count(), frame_count() - 1),
                    std::to_string(index), where_);
    return from_start;
}

// A clip that was cut out of a longer one without encoding it anew begins with frames that are only
// there to decode others. decord counts them, and yet starts from the first that is shown until it
// looks for another key frame than the first.
int64_t VideoFile::place_of(int64_t index) const {
    if (index >= second_key_) return std::max(index, std::min(hidden_, frame_count() - 1));
    return std::min(index + hidden_, frame_count() - 1);
}

// The last key frame that is decoded and shown before this packet's frame, or is it.
size_t VideoFile::start_for(size_t packet) const {
    auto start = std::ranges::upper_bound(starts_, packet);
    while (start != starts_.begin())
        if (packets_[*--start].time <= packets_[packet].time) return *start;
    return 0;
}

std::vector<Run> VideoFile::runs_for(std::span<const int64_t> indices) const {
    std::vector<std::pair<int64_t, int64_t>> targets;  // place and index
    for (const int64_t index : indices) {
        const int64_t from_start = absolute(index);
        targets.emplace_back(timed_ ? place_of(from_start) : from_start, from_start);
    }
    std::ranges::sort(targets);
    targets.erase(std::unique(targets.begin(), targets.end()), targets.end());
    if (!timed_) {
        Run run{0, packets_.size(), false, {}};
        for (const auto& [place, index] : targets)
            run.frames.push_back({size_t(place), place, index});
        return {run};
    }
    std::vector<Run> runs;
    for (const auto& [place, index] : targets) {
        const size_t packet = order_[size_t(place)], start = start_for(packet);
        if (runs.empty() || start >= runs.back().end) runs.push_back({start, packet + 1, true, {}});
        runs.back().end = std::max(runs.back().end, packet + 1);
        runs.back().frames.push_back({packet, packets_[packet].time, index});
    }
    return runs;
}

void VideoFile::decode_runs(std::span<const Run> runs, const OnFrame& on_frame) const {
    Demuxer demuxer(bytes_, limits_, where_);
    RgbConverter converter(width_, height_);
    FrameDecoder decoder(demuxer, limits_, [&](int64_t index, const AVFrame& frame) {
        on_frame(index, oriented(converter.convert(frame), orientation_of(rotation_)));
    });
    for (const Run& run : runs) decoder.decode(run);
}

void VideoFile::decode(std::span<const int64_t> indices, ThreadPool* pool,
                       const OnFrame& on_frame) const {
    const std::vector<Run> runs = runs_for(indices);
    int64_t packets = 0;
    for (const Run& run : runs) packets += int64_t(run.end - run.begin);
    if (packets > limits_.max_decoded / (int64_t(width_) * height_) ||
        packets > limits_.max_decoded_frames)
        throw MediaFault(MediaFault::Kind::too_large,
                         "too much of the video would have to be decoded",
                         fmt::format("at most {} frames, {} pixels", limits_.max_decoded_frames,
                                     limits_.max_decoded),
                         fmt::format("{} frames of {}x{}", packets, width_, height_), where_);
    // A thread takes neighbouring runs, so that each reads the file but once.
    const size_t parts = std::min(size_t(pool ? pool->threads() : 1), runs.size());
    std::vector<std::exception_ptr> errors(parts);
    std::mutex one_at_a_time;
    const auto work = [&](int64_t part, int64_t, int) {
        const size_t begin = size_t(part) * runs.size() / parts;
        const size_t end = size_t(part + 1) * runs.size() / parts;
        try {
            decode_runs(std::span(runs).subspan(begin, end - begin), [&](int64_t i, Image frame) {
                const std::lock_guard lock(one_at_a_time);
                on_frame(i, std::move(frame));
            });
        } catch (...) {
            errors[size_t(part)] = std::current_exception();
        }
    };
    if (pool)
        pool->parallel_for(int64_t(parts), 1, work);
    else
        work(0, 1, 0);
    for (const std::exception_ptr& error : errors)
        if (error) std::rethrow_exception(error);  // the first in the clip's order
}

std::vector<Image> VideoFile::frames(std::span<const int64_t> indices, ThreadPool* pool) const {
    std::vector<Image> images(indices.size());
    decode(indices, pool, [&](int64_t index, Image frame) {
        for (size_t i = 0; i < indices.size(); ++i)
            if (absolute(indices[i]) == index) images[i] = frame;
    });
    return images;
}

}  // namespace internvl
