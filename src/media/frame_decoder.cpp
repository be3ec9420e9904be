#include "media/frame_decoder.h"

namespace internvl {

FrameDecoder::FrameDecoder(Demuxer& demuxer, const VideoLimits& limits, OnFrame on_frame)
    : demuxer_(demuxer),
      max_pixels_(limits.max_pixels),
      steady_(limits.steady),
      on_frame_(std::move(on_frame)),
      packet_(owned(av_packet_alloc())),
      frame_(owned(av_frame_alloc())),
      last_(owned(av_frame_alloc())) {
    const AVCodecParameters& stream = *demuxer.stream().codecpar;
    // Codecs whose frames tell whether others need them. A field with a packet of its own must not
    // be dropped from its frame.
    may_skip_ = (stream.codec_id == AV_CODEC_ID_H264 || stream.codec_id == AV_CODEC_ID_HEVC) &&
                stream.field_order == AV_FIELD_PROGRESSIVE;
}

void FrameDecoder::open_codec() {
    codec_ = owned(avcodec_alloc_context3(&demuxer_.codec()));
    demuxer_.check(avcodec_parameters_to_context(codec_.get(), demuxer_.stream().codecpar));
    codec_->pkt_timebase = demuxer_.stream().time_base;
    codec_->thread_count = 1;
    codec_->max_pixels = max_pixels_;
    demuxer_.check(avcodec_open2(codec_.get(), &demuxer_.codec(), nullptr));
}

// `shown`: the packet's own frame is wanted. Frames that are neither that nor needed for others are
// left out. No packet: no more come.
void FrameDecoder::send(const AVPacket* packet, bool shown) {
    codec_->skip_frame = shown || !may_skip_ ? AVDISCARD_DEFAULT : AVDISCARD_NONREF;
    demuxer_.check(avcodec_send_packet(codec_.get(), packet));
}

void FrameDecoder::take_frames(const Run& run) {
    for (;;) {
        const int code = avcodec_receive_frame(codec_.get(), frame_.get());
        if (code == AVERROR(EAGAIN) || code == AVERROR_EOF) return;
        demuxer_.check(code);
        const AVCodecParameters& announced = *demuxer_.stream().codecpar;
        if (steady_ && (frame_->width != announced.width || frame_->height != announced.height))
            demuxer_.fail("frames that change their size");
        const int64_t time = run.timed ? frame_->best_effort_timestamp : counted_++;
        for (; next_ < run.frames.size() && run.frames[next_].time <= time; ++next_)
            on_frame_(run.frames[next_].index, *frame_);
        av_frame_unref(last_.get());
        av_frame_move_ref(last_.get(), frame_.get());
    }
}

void FrameDecoder::decode(const Run& run) {
    open_codec();
    av_frame_unref(last_.get());
    next_ = 0;
    counted_ = 0;
    std::vector<bool> shown(run.end - run.begin);
    for (const Wanted& wanted : run.frames) shown[wanted.packet - run.begin] = true;
    while (at_ < run.end && next_ < run.frames.size()) {
        if (!demuxer_.next(*packet_)) break;
        const size_t i = at_++;
        if (i < run.begin) continue;
        send(packet_.get(), shown[i - run.begin]);
        take_frames(run);
    }
    if (next_ == run.frames.size()) return;
    send(nullptr, true);
    take_frames(run);
    for (; next_ < run.frames.size(); ++next_) {
        if (!last_->buf[0]) demuxer_.fail("no frame");
        on_frame_(run.frames[next_].index, *last_);
    }
}

}  // namespace internvl
