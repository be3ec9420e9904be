#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/parallel.h"
#include "media/image.h"

namespace internvl {

struct Run;  // media/frame_decoder.h

// What an untrusted clip may ask for.
struct VideoLimits {
    int64_t max_pixels = int64_t(1) << 26;   // of a frame
    int64_t max_frames = int64_t(1) << 22;   // of the clip
    int64_t max_decoded = int64_t(1) << 40;  // pixels that one call of decode may decode
    // What a service sets besides.
    int max_side = 1 << 26;                         // of a frame
    int64_t max_decoded_frames = int64_t(1) << 40;  // by one call of decode
    double max_seconds = 1e18, max_fps = 1e18;      // finite ones ask for a clip that tells its own
    bool steady = false;  // all frames have the size that the clip announces
    // Only MP4, MOV, Matroska, WebM, AVI and GIF, with the codecs that browsers write or play.
    bool common_kinds = false;
};

// Whether the bytes begin like a clip of a kind that VideoFile reads. Animated pictures are no
// clips.
bool is_video(std::span<const uint8_t> bytes);

// The picture stream of a clip: MP4, MOV, Matroska, WebM, AVI, FLV, MPEG-TS, MPEG-PS, ASF or Ogg,
// told apart by content. Frames have the numbers, rates and pixels that decord gives them: frame k
// is the k-th in order of display, RGB, turned as the file asks.
class VideoFile {
  public:
    // Reads the clip's table of frames; the bytes must outlive the object. `where` names the source
    // in errors. Throws MediaFault for what is no clip, is broken, or beyond the limits.
    VideoFile(std::span<const uint8_t> bytes, const VideoLimits& limits, const std::string& where);

    int64_t frame_count() const { return int64_t(order_.size()); }
    double fps() const { return fps_; }  // on average; NaN when the file does not say
    int width() const { return rotation_ % 180 ? height_ : width_; }  // of a frame, turned
    int height() const { return rotation_ % 180 ? width_ : height_; }
    int rotation() const { return rotation_; }  // degrees clockwise: 0, 90, 180 or 270

    using OnFrame = std::function<void(int64_t index, Image frame)>;
    // Calls on_frame once for every different index, one call at a time, in any order and from any
    // thread of the pool; negative indices count from the end. A frame that the clip lacks though
    // its table names it is replaced by a neighbour. Throws Error for an index outside of the clip
    // and for data that cannot be decoded.
    void decode(std::span<const int64_t> indices, ThreadPool* pool, const OnFrame& on_frame) const;

    // The frames of `indices`, in that order, each index as in decode.
    std::vector<Image> frames(std::span<const int64_t> indices, ThreadPool* pool = nullptr) const;

    // The index counted from the start of the clip. Throws Error outside of it.
    int64_t absolute(int64_t index) const;

  private:
    struct Packet {
        int64_t time;  // of display, in the stream's units
        bool hidden;   // decoded for others, not shown
    };
    void read_table();
    void check_pace(double seconds) const;
    int64_t place_of(int64_t index) const;
    size_t start_for(size_t packet) const;
    std::vector<Run> runs_for(std::span<const int64_t> indices) const;
    void decode_runs(std::span<const Run> runs, const OnFrame& on_frame) const;

    std::span<const uint8_t> bytes_;
    VideoLimits limits_;
    std::string where_;
    int width_ = 0, height_ = 0;  // before turning
    int rotation_ = 0;
    double fps_ = 0;
    std::vector<Packet> packets_;  // in the order of decoding
    std::vector<size_t> starts_;   // packets of key frames with which decoding can start
    std::vector<size_t> order_;    // the packet of each frame, in the order of display
    int64_t hidden_ = 0;           // frames at the beginning of that order that are not shown
    int64_t second_key_ = 0;       // packets before the second key frame
    bool timed_ = true;            // times tell the frames apart; else they are counted
};

}  // namespace internvl
