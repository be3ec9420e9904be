#include "media/rgb_converter.h"

extern "C" {
#include <libavutil/opt.h>
}

#include <cstring>

#include "base/error.h"

namespace internvl {
namespace {

void check(int code) {
    if (code < 0) throw Error("cannot convert a video frame to RGB", {}, ffmpeg_message(code));
}

}  // namespace

RgbConverter::RgbConverter(int width, int height) : rgb_(owned(av_frame_alloc())) {
    rgb_->width = width;
    rgb_->height = height;
    rgb_->format = AV_PIX_FMT_RGB24;
    check(av_frame_get_buffer(rgb_.get(), 0));
}

void RgbConverter::prepare(const AVFrame& frame) {
    if (frame.width != from_width_ || frame.height != from_height_ ||
        frame.format != from_format_) {
        scaler_ = owned(sws_alloc_context());
        const auto set = [&](const char* name, int64_t value) {
            check(av_opt_set_int(scaler_.get(), name, value, 0));
        };
        set("srcw", frame.width);
        set("srch", frame.height);
        set("src_format", frame.format);
        set("dstw", rgb_->width);
        set("dsth", rgb_->height);
        set("dst_format", rgb_->format);
        set("sws_flags", SWS_BILINEAR);
        // Where MPEG-2 and its successors put the chroma samples; the filter says so for this
        // format only.
        if (frame.format == AV_PIX_FMT_YUV420P) set("src_v_chr_pos", 128);
        check(sws_init_context(scaler_.get(), nullptr, nullptr));
        from_width_ = frame.width;
        from_height_ = frame.height;
        from_format_ = frame.format;
    }
    int *from, *to, full = 0, to_full = 0, brightness, contrast, saturation;
    if (sws_getColorspaceDetails(scaler_.get(), &from, &full, &to, &to_full, &brightness, &contrast,
                                 &saturation) < 0)
        return;  // a format without luma and chroma
    const bool named = frame.colorspace >= 1 && frame.colorspace <= 10 && frame.colorspace != 8;
    const int* matrix = sws_getCoefficients(named ? frame.colorspace : SWS_CS_ITU601);
    if (frame.color_range != AVCOL_RANGE_UNSPECIFIED) full = frame.color_range == AVCOL_RANGE_JPEG;
    sws_setColorspaceDetails(scaler_.get(), matrix, full, matrix, to_full, brightness, contrast,
                             saturation);
}

Image RgbConverter::convert(const AVFrame& frame) {
    prepare(frame);
    check(sws_scale(scaler_.get(), frame.data, frame.linesize, 0, frame.height, rgb_->data,
                    rgb_->linesize));
    const size_t row = size_t(rgb_->width) * 3;
    Image image{rgb_->width, rgb_->height, std::vector<uint8_t>(row * size_t(rgb_->height))};
    for (int y = 0; y < rgb_->height; ++y)
        std::memcpy(&image.rgb[size_t(y) * row], rgb_->data[0] + ptrdiff_t(y) * rgb_->linesize[0],
                    row);
    return image;
}

}  // namespace internvl
