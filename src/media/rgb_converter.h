#pragma once
#include "media/ffmpeg.h"
#include "media/image.h"

namespace internvl {

// Inside of the media folder: decoded frames of any format as RGB pictures of one size, as FFmpeg's
// scale filter makes them (which decord uses): by the frame's colour matrix and range, BT.601 and
// limited where it names none.
class RgbConverter {
  public:
    RgbConverter(int width, int height);
    Image convert(const AVFrame& frame);

  private:
    void prepare(const AVFrame& frame);

    FFmpegPtr<AVFrame> rgb_;  // with the padding that vector code writes into
    FFmpegPtr<SwsContext> scaler_;
    int from_width_ = 0, from_height_ = 0, from_format_ = AV_PIX_FMT_NONE;
};

}  // namespace internvl
