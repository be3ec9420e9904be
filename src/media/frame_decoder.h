#pragma once
#include <functional>
#include <vector>

#include "media/demuxer.h"

// Inside of the media folder: from packets to the frames that are wanted.
namespace internvl {

// A frame that is wanted: its packet, when it is shown, and its number for the caller.
struct Wanted {
    size_t packet;
    int64_t time;
    int64_t index;
};

// Packets from a key frame on that are decoded for some frames, which ascend in time.
struct Run {
    size_t begin, end;
    bool timed;  // false: a frame's time is how many came before it
    std::vector<Wanted> frames;
};

class FrameDecoder {
  public:
    using OnFrame = std::function<void(int64_t index, const AVFrame&)>;

    FrameDecoder(Demuxer& demuxer, const VideoLimits& limits, OnFrame on_frame);

    // Decodes the run on one thread with a fresh decoder, so that its frames depend on nothing else
    // even where the data is damaged. Runs must come in their order. A frame that does not come is
    // replaced by the next, or at the end by the last.
    void decode(const Run& run);

  private:
    void send(const AVPacket* packet, bool shown);
    void take_frames(const Run& run);
    void open_codec();

    Demuxer& demuxer_;
    int64_t max_pixels_;
    bool steady_;
    OnFrame on_frame_;
    size_t at_ = 0;  // packets read
    FFmpegPtr<AVPacket> packet_;
    FFmpegPtr<AVFrame> frame_, last_;
    FFmpegPtr<AVCodecContext> codec_;
    bool may_skip_ = false;
    size_t next_ = 0;      // in the run's frames
    int64_t counted_ = 0;  // frames that came in this run
};

}  // namespace internvl
