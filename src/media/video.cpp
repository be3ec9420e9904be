#include "media/video.h"

#include <fmt/format.h>

extern "C" {
#include <libavutil/display.h>
}

#include <algorithm>
#include <cmath>
#include <numeric>

#include "base/error.h"
#include "media/decode.h"
#include "media/demuxer.h"
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

template <class T>
FFmpegPtr<T> owned(T* object) {
    if (!object) throw std::bad_alloc();
    return FFmpegPtr<T>(object);
}

// Packets in, frames out.
class Decoder {
  public:
    Decoder(const Demuxer& demuxer, const VideoLimits& limits, int threads)
        : demuxer_(demuxer),
          budget_(limits.max_decoded),
          frame_(owned(av_frame_alloc())),
          codec_(owned(avcodec_alloc_context3(&demuxer.codec()))) {
        const AVCodecParameters* parameters = demuxer.stream().codecpar;
        demuxer.check(avcodec_parameters_to_context(codec_.get(), parameters));
        codec_->pkt_timebase = demuxer.stream().time_base;
        codec_->thread_count = threads;
        codec_->max_pixels = limits.max_pixels;
        demuxer.check(avcodec_open2(codec_.get(), &demuxer.codec(), nullptr));
        pixels_ = int64_t(parameters->width) * parameters->height;
        const bool reorders =
            parameters->codec_id == AV_CODEC_ID_H264 || parameters->codec_id == AV_CODEC_ID_HEVC;
        // A field of its own packet must not be dropped from its frame.
        may_skip_ = reorders && parameters->field_order == AV_FIELD_PROGRESSIVE;
    }

    // `shown`: this packet's own frame is wanted. Frames that are neither shown nor referred to are
    // left out. null: no more packets come.
    void send(const AVPacket* packet, bool shown) {
        if ((budget_ -= pixels_) < 0) demuxer_.fail("far more frames to decode than are allowed");
        codec_->skip_frame = shown || !may_skip_ ? AVDISCARD_DEFAULT : AVDISCARD_NONREF;
        demuxer_.check(avcodec_send_packet(codec_.get(), packet));
    }

    // The next frame; null when more packets are needed.
    const AVFrame* receive() {
        const int code = avcodec_receive_frame(codec_.get(), frame_.get());
        if (code == AVERROR(EAGAIN) || code == AVERROR_EOF) return nullptr;
        demuxer_.check(code);
        return frame_.get();
    }

    void restart() { avcodec_flush_buffers(codec_.get()); }

  private:
    const Demuxer& demuxer_;
    int64_t budget_, pixels_ = 0;
    bool may_skip_ = false;
    FFmpegPtr<AVFrame> frame_;
    FFmpegPtr<AVCodecContext> codec_;
};

}  // namespace

bool is_video(std::span<const uint8_t> bytes) {
    return container_of(bytes) != nullptr;
}

Video::Video(std::span<const uint8_t> bytes, const VideoLimits& limits, const std::string& where)
    : bytes_(bytes), limits_(limits), where_(where) {
    read_table();
}

void Video::read_table() {
    Demuxer demuxer(bytes_, limits_, where_);
    const AVStream& stream = demuxer.stream();
    width_ = stream.codecpar->width;
    height_ = stream.codecpar->height;
    rotation_ = rotation_of(stream);
    const AVRational average = stream.avg_frame_rate;
    const AVRational rate = average.num && average.den ? average : stream.r_frame_rate;
    fps_ = double(rate.num) / rate.den;

    const auto packet = owned(av_packet_alloc());
    int64_t latest = AV_NOPTS_VALUE;  // which is less than any time
    while (demuxer.next(*packet)) {
        if (int64_t(packets_.size()) == limits_.max_frames)
            throw Error("the video is too long", fmt::format("at most {} frames", packets_.size()),
                        "more", where_);
        const int64_t time = packet->pts;
        const bool key = packet->flags & AV_PKT_FLAG_KEY;
        if (key && !packets_.empty() && second_key_ == 0) second_key_ = int64_t(packets_.size());
        // Earlier packets' frames must all be shown before a key frame that we start from.
        packets_.push_back(
            {time, key && time > latest, (packet->flags & AV_PKT_FLAG_DISCARD) != 0});
        latest = std::max(latest, time);
        if (time == AV_NOPTS_VALUE) timed_ = false;
    }
    if (packets_.empty()) demuxer.fail("no frame");
    order_.resize(packets_.size());
    std::iota(order_.begin(), order_.end(), size_t(0));
    const auto time_of = [&](size_t i) { return packets_[i].time; };
    std::ranges::stable_sort(order_, {}, time_of);
    if (std::ranges::adjacent_find(order_, {}, time_of) != order_.end()) timed_ = false;
    if (second_key_ == 0) second_key_ = frame_count();
    while (timed_ && hidden_ < frame_count() && packets_[order_[size_t(hidden_)]].hidden) ++hidden_;
}

int64_t Video::absolute(int64_t index) const {
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
int64_t Video::place_of(int64_t index) const {
    return index < second_key_ ? std::min(index + hidden_, frame_count() - 1) : index;
}

// The last place in the order of display whose frame is to be shown at `time` or before.
int64_t Video::place_at(int64_t time) const {
    const auto after =
        std::ranges::upper_bound(order_, time, {}, [&](size_t i) { return packets_[i].time; });
    return after - order_.begin() - 1;
}

// Which packets must be decoded: for each frame those from its key frame on, or all when frames are
// counted.
std::vector<bool> Video::packets_for(const std::vector<Target>& targets) const {
    std::vector<bool> needed(packets_.size(), !timed_);
    if (!timed_) return needed;
    for (const Target& target : targets) {
        const size_t last = order_[size_t(target.place)];
        for (size_t i = last; !needed[i]; --i) {
            needed[i] = true;
            if (i == 0 || (packets_[i].key && packets_[i].time <= packets_[last].time)) break;
        }
    }
    return needed;
}

void Video::decode(std::span<const int64_t> indices, int threads, const OnFrame& on_frame) const {
    std::vector<Target> targets;
    for (const int64_t index : indices)
        targets.push_back({place_of(absolute(index)), absolute(index)});
    std::ranges::sort(targets);
    targets.erase(std::unique(targets.begin(), targets.end()), targets.end());
    const std::vector<bool> needed = packets_for(targets);
    std::vector<bool> shown(packets_.size());
    for (const Target& target : targets) shown[order_[size_t(target.place)]] = true;

    Demuxer demuxer(bytes_, limits_, where_);
    Decoder decoder(demuxer, limits_, threads);
    RgbConverter converter(width_, height_);
    const auto packet = owned(av_packet_alloc());
    const auto last = owned(av_frame_alloc());
    size_t next = 0;       // in targets
    int64_t counted = -1;  // frames so far
    const auto deliver = [&](const AVFrame& frame) {
        on_frame(targets[next++].index,
                 oriented(converter.convert(frame), orientation_of(rotation_)));
    };
    const auto take_frames = [&] {
        while (const AVFrame* frame = decoder.receive()) {
            const int64_t at = timed_ ? place_at(frame->best_effort_timestamp) : ++counted;
            while (next < targets.size() && targets[next].place <= at) deliver(*frame);
            av_frame_unref(last.get());
            demuxer.check(av_frame_ref(last.get(), frame));
        }
    };
    // Ends a run of needed packets. Frames that should have come and did not get the last one.
    const auto drain = [&](size_t end) {
        decoder.send(nullptr, false);
        take_frames();
        while (next < targets.size() && order_[size_t(targets[next].place)] < end) {
            if (!last->buf[0]) demuxer.fail("no frame");
            deliver(*last);
        }
        decoder.restart();
    };
    for (size_t i = 0; i < needed.size() && next < targets.size(); ++i) {
        if (!demuxer.next(*packet)) break;
        if (needed[i]) {
            decoder.send(packet.get(), shown[i]);
            take_frames();
        } else if (i > 0 && needed[i - 1]) {
            drain(i);
        }
    }
    if (next < targets.size()) drain(packets_.size());
}

std::vector<Image> Video::frames(std::span<const int64_t> indices, int threads) const {
    std::vector<Image> images(indices.size());
    decode(indices, threads, [&](int64_t index, Image frame) {
        for (size_t i = 0; i < indices.size(); ++i)
            if (absolute(indices[i]) == index) images[i] = frame;
    });
    return images;
}

}  // namespace internvl
