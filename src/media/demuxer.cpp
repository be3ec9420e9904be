#include "media/demuxer.h"

#include <fmt/format.h>

extern "C" {
#include <libavutil/avstring.h>
}

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <string_view>
#include <vector>

#include "media/media_fault.h"

namespace internvl {

using Kind = MediaFault::Kind;

namespace {

using namespace std::string_view_literals;

struct Mark {
    std::string_view text;
    size_t at;
    const char* container;  // null: no clip
};

// Only these containers are read, and the demuxer is chosen here, so that no file can have itself
// taken for a playlist that opens others.
constexpr Mark marks[] = {
    {"ftypavi"sv, 4, nullptr},  // pictures in MP4's boxes
    {"ftyphei"sv, 4, nullptr},
    {"ftypmif1"sv, 4, nullptr},
    {"ftyp"sv, 4, "mov"},
    {"moov"sv, 4, "mov"},
    {"mdat"sv, 4, "mov"},
    {"wide"sv, 4, "mov"},
    {"free"sv, 4, "mov"},
    {"skip"sv, 4, "mov"},
    {"moof"sv, 4, "mov"},
    {"styp"sv, 4, "mov"},
    {"\x1A\x45\xDF\xA3"sv, 0, "matroska"},
    {"AVI "sv, 8, "avi"},
    {"FLV\x01"sv, 0, "flv"},
    {"\0\0\x01\xBA"sv, 0, "mpeg"},
    {"\x30\x26\xB2\x75\x8E\x66\xCF\x11"sv, 0, "asf"},
    {"OggS"sv, 0, "ogg"},
};

constexpr const char* readable =
    "MP4, MOV, Matroska, WebM, AVI, FLV, MPEG-TS, MPEG-PS, ASF (WMV) or Ogg";

// The decoders that may see a file's bytes. Sound has none: it is never decoded.
constexpr const char* decoders =
    "h264,hevc,libdav1d,libaom-av1,av1,vp8,vp9,mpeg4,msmpeg4,msmpeg4v1,msmpeg4v2,mpeg1video,"
    "mpeg2video,h263,flv,wmv1,wmv2,wmv3,vc1,theora,mjpeg,prores,rawvideo";

// The same for clips of strangers (VideoLimits::common_kinds).
constexpr std::string_view common_containers[] = {"mov", "matroska", "avi", "gif"};
constexpr const char* common_readable = "MP4, MOV, Matroska, WebM, AVI or GIF";
constexpr const char* common_decoders = "h264,hevc,libdav1d,libaom-av1,av1,vp8,vp9,mpeg4,mjpeg,gif";

const char* common_container_of(std::span<const uint8_t> bytes) {
    const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    if (text.starts_with("GIF87a") || text.starts_with("GIF89a")) return "gif";
    const char* container = container_of(bytes);
    return container &&
                   std::ranges::find(common_containers, container) != std::end(common_containers)
               ? container
               : nullptr;
}

constexpr size_t largest_allocation = size_t(512) << 20;  // bytes, each of FFmpeg's
constexpr int most_streams = 64;

// FFmpeg's log and its limit of memory belong to the process.
void quieten_once() {
    static const bool done = [] {
        av_log_set_level(AV_LOG_QUIET);
        av_max_alloc(largest_allocation);
        return true;
    }();
    (void)done;
}

int refuse_to_open(AVFormatContext*, AVIOContext**, const char*, int, AVDictionary**) {
    return AVERROR(EPERM);
}

}  // namespace

const char* container_of(std::span<const uint8_t> bytes) {
    const std::string_view text(reinterpret_cast<const char*>(bytes.data()), bytes.size());
    for (const Mark& mark : marks)
        if (text.size() > mark.at && text.substr(mark.at).starts_with(mark.text))
            return mark.container;
    // A transport stream repeats its mark every 188 bytes, or every 192 after a time of 4 bytes.
    const auto repeats = [&](size_t at, size_t step) {
        for (int i = 0; i < 3; ++i, at += step)
            if (at >= text.size() || text[at] != 0x47) return false;
        return true;
    };
    return repeats(0, 188) || repeats(4, 192) ? "mpegts" : nullptr;
}

Demuxer::Demuxer(std::span<const uint8_t> bytes, const VideoLimits& limits,
                 const std::string& where)
    : bytes_(bytes), where_(where) {
    quieten_once();
    const char* container = limits.common_kinds ? common_container_of(bytes) : container_of(bytes);
    if (!container)
        throw MediaFault(Kind::unsupported, "this is no video that can be read",
                         limits.common_kinds ? common_readable : readable, "another kind of file",
                         where);
    const char* allowed = limits.common_kinds ? common_decoders : decoders;
    open(container, allowed);
    find_streams(limits, allowed);
}

double Demuxer::seconds() const {
    if (format_->duration == AV_NOPTS_VALUE) return std::numeric_limits<double>::quiet_NaN();
    return double(format_->duration) / AV_TIME_BASE;
}

void Demuxer::fail(const std::string& reason) const {
    throw MediaFault(Kind::damaged, "cannot decode this video", "a complete, valid file", reason,
                     where_);
}

int Demuxer::read(void* self, uint8_t* out, int size) {
    Demuxer& demuxer = *static_cast<Demuxer*>(self);
    const size_t count = std::min(size_t(size), demuxer.bytes_.size() - demuxer.at_);
    if (count == 0) return AVERROR_EOF;
    std::memcpy(out, demuxer.bytes_.data() + demuxer.at_, count);
    demuxer.at_ += count;
    return int(count);
}

int64_t Demuxer::seek(void* self, int64_t offset, int whence) {
    Demuxer& demuxer = *static_cast<Demuxer*>(self);
    const int64_t size = int64_t(demuxer.bytes_.size());
    switch (whence & ~AVSEEK_FORCE) {
        case AVSEEK_SIZE:
            return size;
        case SEEK_SET:
            break;
        case SEEK_CUR:
            offset += int64_t(demuxer.at_);
            break;
        case SEEK_END:
            offset += size;
            break;
        default:
            return AVERROR(EINVAL);
    }
    if (offset < 0 || offset > size) return AVERROR(EINVAL);
    demuxer.at_ = size_t(offset);
    return offset;
}

void Demuxer::open(const char* container, const char* allowed) {
    constexpr int buffer_bytes = 1 << 16;
    auto* buffer = static_cast<unsigned char*>(av_malloc(buffer_bytes));
    io_ = owned(avio_alloc_context(buffer, buffer_bytes, 0, this, read, nullptr, seek));
    AVFormatContext* format = avformat_alloc_context();
    if (!format) throw std::bad_alloc();
    format->pb = io_.get();
    format->flags |= AVFMT_FLAG_CUSTOM_IO;
    format->io_open = refuse_to_open;
    format->max_streams = most_streams;
    AVDictionary* options = nullptr;
    av_dict_set(&options, "codec_whitelist", allowed, 0);
    av_dict_set(&options, "protocol_whitelist", "none", 0);
    const int code =
        avformat_open_input(&format, nullptr, av_find_input_format(container), &options);
    const FFmpegPtr<AVDictionary> leftover(options);
    check(code);  // it has freed the context when it fails
    format_.reset(format);
}

void Demuxer::find_streams(const VideoLimits& limits, const char* allowed) {
    std::vector<AVDictionary*> options(format_->nb_streams, nullptr);
    for (AVDictionary*& option : options)
        av_dict_set_int(&option, "max_pixels", limits.max_pixels, 0);
    const int code = avformat_find_stream_info(format_.get(), options.data());
    for (AVDictionary*& option : options) av_dict_free(&option);
    check(code);
    const int best = av_find_best_stream(format_.get(), AVMEDIA_TYPE_VIDEO, -1, -1, &codec_, 0);
    if (best < 0)
        throw MediaFault(best == AVERROR_DECODER_NOT_FOUND ? Kind::unsupported : Kind::damaged,
                         "there are no moving pictures to decode in this file", std::string(),
                         ffmpeg_message(best), where_);
    if (av_match_list(codec_->name, allowed, ',') <= 0)
        throw MediaFault(Kind::unsupported, "this kind of video is not supported", std::string(),
                         codec_->name, where_);
    for (unsigned i = 0; i < format_->nb_streams; ++i)
        if (int(i) != best) format_->streams[i]->discard = AVDISCARD_ALL;
    stream_ = format_->streams[best];
    const int64_t width = stream_->codecpar->width, height = stream_->codecpar->height;
    if (width < 1 || height < 1) fail(fmt::format("a size of {}x{} pixels", width, height));
    if (width > limits.max_pixels / height || std::max(width, height) > limits.max_side)
        throw MediaFault(Kind::too_large, "the video is too large",
                         fmt::format("at most {} pixels", limits.max_pixels),
                         fmt::format("{}x{}", width, height), where_);
}

bool Demuxer::next(AVPacket& packet) {
    for (;;) {
        av_packet_unref(&packet);
        const int code = av_read_frame(format_.get(), &packet);
        if (code == AVERROR_EOF) return false;
        check(code);
        if (packet.stream_index == stream_->index) return true;
    }
}

}  // namespace internvl
