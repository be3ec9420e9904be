#include <webp/decode.h>
#include <webp/demux.h>

#include <memory>

#include "media/codecs.h"

namespace internvl {

// Decodes one still bitstream into `out` (rows `stride` apart), dropping alpha.
static void decode_still(const Encoded& file, std::span<const uint8_t> bytes, uint8_t* out,
                         size_t room, int stride) {
    if (!WebPDecodeRGBInto(bytes.data(), bytes.size(), out, room, stride))
        file.fail("broken or incomplete picture data");
}

// The first frame of an animation lies at its offset on a canvas that is black elsewhere.
static Image decode_first_frame(const Encoded& file) {
    const WebPData data{file.bytes.data(), file.bytes.size()};
    const std::unique_ptr<WebPDemuxer, void (*)(WebPDemuxer*)> demuxer(WebPDemux(&data),
                                                                       WebPDemuxDelete);
    if (!demuxer) file.fail("a broken or incomplete animation");
    const int64_t width = WebPDemuxGetI(demuxer.get(), WEBP_FF_CANVAS_WIDTH);
    const int64_t height = WebPDemuxGetI(demuxer.get(), WEBP_FF_CANVAS_HEIGHT);
    file.check_size(width, height);

    WebPIterator frame;
    if (!WebPDemuxGetFrame(demuxer.get(), 1, &frame)) file.fail("an animation without frames");
    const std::unique_ptr<WebPIterator, void (*)(WebPIterator*)> release(&frame,
                                                                         WebPDemuxReleaseIterator);
    const bool inside = frame.x_offset >= 0 && frame.y_offset >= 0 && frame.width > 0 &&
                        frame.height > 0 && frame.x_offset + frame.width <= width &&
                        frame.y_offset + frame.height <= height;
    if (!inside) file.fail("a frame that leaves the canvas");
    Image image = file.canvas(width, height);
    const size_t start = 3 * (size_t(frame.y_offset) * size_t(width) + size_t(frame.x_offset));
    decode_still(file, {frame.fragment.bytes, frame.fragment.size}, image.rgb.data() + start,
                 image.rgb.size() - start, int(width) * 3);
    return image;
}

Image decode_webp(const Encoded& file) {
    WebPBitstreamFeatures features;
    if (WebPGetFeatures(file.bytes.data(), file.bytes.size(), &features) != VP8_STATUS_OK)
        file.fail("a broken or incomplete header");
    if (features.has_animation) return decode_first_frame(file);
    Image image = file.canvas(features.width, features.height);
    decode_still(file, file.bytes, image.rgb.data(), image.rgb.size(), image.width * 3);
    return image;
}

}  // namespace internvl
