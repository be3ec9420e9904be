#pragma once
#include <span>

#include "media/ffmpeg.h"
#include "media/video.h"

// Inside of the media folder: reads the packets of a clip's picture stream.
namespace internvl {

// The demuxer for these bytes by the marks at their beginning; null for what is no clip.
const char* container_of(std::span<const uint8_t> bytes);

class Demuxer {
  public:
    // Throws MediaFault for what is no clip, is broken, or beyond the limits.
    Demuxer(std::span<const uint8_t> bytes, const VideoLimits& limits, const std::string& where);

    // The next packet of the stream, in decoding order; false after the last.
    bool next(AVPacket& packet);

    const AVStream& stream() const { return *stream_; }
    const AVCodec& codec() const { return *codec_; }
    // What the container says of its length, in seconds; NaN when it says nothing.
    double seconds() const;

    [[noreturn]] void fail(const std::string& reason) const;
    void check(int code) const {
        if (code < 0) fail(ffmpeg_message(code));
    }

  private:
    void open(const char* container, const char* decoders);
    void find_streams(const VideoLimits& limits, const char* decoders);

    static int read(void* self, uint8_t* out, int size);
    static int64_t seek(void* self, int64_t offset, int whence);

    std::span<const uint8_t> bytes_;
    size_t at_ = 0;
    std::string where_;
    FFmpegPtr<AVIOContext> io_;
    FFmpegPtr<AVFormatContext> format_;
    const AVStream* stream_ = nullptr;
    const AVCodec* codec_ = nullptr;
};

}  // namespace internvl
