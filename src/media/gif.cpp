#include <gif_lib.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <memory>

#include "media/codecs.h"

namespace internvl {
namespace {

using Palette = std::array<std::array<uint8_t, 3>, 256>;
using Gif = std::unique_ptr<GifFileType, int (*)(GifFileType*)>;

struct Source {
    std::span<const uint8_t> rest;
    bool ended = false;
};

// Past the end one zero byte follows: the block terminator, which Pillow does not insist on and
// giflib does. Anything else that is missing stays missing.
int read_bytes(GifFileType* gif, GifByteType* out, int count) {
    Source& source = *static_cast<Source*>(gif->UserData);
    auto& rest = source.rest;
    if (rest.empty() && count == 1 && !source.ended) {
        source.ended = true;
        *out = 0;
        return 1;
    }
    const size_t got = std::min(rest.size(), size_t(count));
    std::memcpy(out, rest.data(), got);
    rest = rest.subspan(got);
    return int(got);
}

[[noreturn]] void fail(const Encoded& file, int error) {
    const char* text = GifErrorString(error);
    file.fail(text ? text : "broken data");
}

Palette palette_of(const GifFileType& gif) {
    const ColorMapObject* map = gif.Image.ColorMap ? gif.Image.ColorMap : gif.SColorMap;
    Palette palette{};
    for (int i = 0; i < 256; ++i) {
        const uint8_t gray = uint8_t(i);
        if (!map)
            palette[size_t(i)] = {gray, gray, gray};
        else if (i < map->ColorCount)
            palette[size_t(i)] = {map->Colors[i].Red, map->Colors[i].Green, map->Colors[i].Blue};
    }
    return palette;
}

// Reads up to the first picture's data. Returns the transparent index, or -1.
int find_picture(const Encoded& file, GifFileType* gif) {
    int transparent = -1;
    for (GifRecordType record;;) {
        if (DGifGetRecordType(gif, &record) == GIF_ERROR) fail(file, gif->Error);
        if (record == IMAGE_DESC_RECORD_TYPE) {
            if (DGifGetImageHeader(gif) == GIF_ERROR) fail(file, gif->Error);
            return transparent;
        }
        if (record != EXTENSION_RECORD_TYPE) file.fail("no picture before the end mark");
        int code;
        GifByteType* block;
        if (DGifGetExtension(gif, &code, &block) == GIF_ERROR) fail(file, gif->Error);
        if (code == GRAPHICS_EXT_FUNC_CODE && block && block[0] >= 4 && (block[1] & 1))
            transparent = block[4];
        while (block)
            if (DGifGetExtensionNext(gif, &block) == GIF_ERROR) fail(file, gif->Error);
    }
}

}  // namespace

// The first frame on the logical screen, which grows to hold it; the rest of the screen shows the
// transparent colour, or colour 0 (Pillow).
Image decode_gif(const Encoded& file) {
    int error = 0;
    Source source{file.bytes};
    const Gif owner(DGifOpen(&source, read_bytes, &error),
                    [](GifFileType* gif) { return DGifCloseFile(gif, nullptr); });
    GifFileType* gif = owner.get();
    if (!gif) fail(file, error);
    const int transparent = find_picture(file, gif);

    const GifImageDesc& frame = gif->Image;
    file.check_size(frame.Width, frame.Height);
    Image image = file.canvas(std::max(gif->SWidth, frame.Left + frame.Width),
                              std::max(gif->SHeight, frame.Top + frame.Height));
    const Palette palette = palette_of(*gif);
    const auto& behind = palette[size_t(std::max(0, transparent))];
    for (size_t i = 0; i < image.rgb.size(); i += 3)
        std::copy(behind.begin(), behind.end(), &image.rgb[i]);

    std::vector<GifPixelType> row(size_t(frame.Width));
    // Interlaced rows come as every 8th from 0, every 8th from 4, every 4th from 2, the odd ones.
    constexpr int starts[] = {0, 4, 2, 1}, steps[] = {8, 8, 4, 2};
    for (int pass = 0; pass < (frame.Interlace ? 4 : 1); ++pass) {
        const int step = frame.Interlace ? steps[pass] : 1;
        for (int y = starts[pass]; y < frame.Height; y += step) {
            if (DGifGetLine(gif, row.data(), frame.Width) == GIF_ERROR) fail(file, gif->Error);
            uint8_t* out =
                &image.rgb[3 * (size_t(frame.Top + y) * size_t(image.width) + size_t(frame.Left))];
            for (GifPixelType index : row)
                out = std::copy(palette[index].begin(), palette[index].end(), out);
        }
    }
    return image;
}

}  // namespace internvl
