#pragma once
// Inside of the media folder: FFmpeg's objects with their owners.
extern "C" {
#include <libavcodec/avcodec.h>
#include <libavformat/avformat.h>
#include <libswscale/swscale.h>
}
#include <memory>
#include <new>
#include <string>

namespace internvl {

struct FFmpegDeleter {
    void operator()(AVFormatContext* p) const { avformat_close_input(&p); }
    void operator()(AVCodecContext* p) const { avcodec_free_context(&p); }
    void operator()(AVPacket* p) const { av_packet_free(&p); }
    void operator()(AVFrame* p) const { av_frame_free(&p); }
    void operator()(SwsContext* p) const { sws_freeContext(p); }
    void operator()(AVDictionary* p) const { av_dict_free(&p); }
    void operator()(AVIOContext* p) const {
        av_freep(&p->buffer);
        avio_context_free(&p);
    }
};
template <class T>
using FFmpegPtr = std::unique_ptr<T, FFmpegDeleter>;

// What an allocation gave, or std::bad_alloc.
template <class T>
FFmpegPtr<T> owned(T* object) {
    if (!object) throw std::bad_alloc();
    return FFmpegPtr<T>(object);
}

inline std::string ffmpeg_message(int code) {
    char text[AV_ERROR_MAX_STRING_SIZE] = {};
    av_strerror(code, text, sizeof text);
    return text;
}

}  // namespace internvl
