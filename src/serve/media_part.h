#pragma once
#include <optional>
#include <string>

#include "internvl/options.h"

namespace internvl {

// A picture or video as a request names it; nothing of it has been read (api.md 2.2).
struct MediaPart {
    enum class Kind { picture, video } kind = Kind::picture;
    std::string url = {};            // data:, http:, https: or file:
    ImageOptions image = {};         // of a picture
    VideoOptions video = {};         // of a video
    std::optional<double> fps = {};  // frames a second to take, instead of video.num_segments
    std::string param = {};          // where it stands: messages[0].content[1].image_url.url
};

}  // namespace internvl
