#pragma once
#include "serve/fields.h"

namespace internvl {

// What a request says about all its pictures and videos: mm_processor_kwargs, media_io_kwargs.
struct MediaDefaults {
    ImageOptions image;
    VideoOptions video;
    std::optional<double> fps;
    std::optional<int> max_tiles;  // given by the request
};
MediaDefaults parse_media_defaults(const nlohmann::json& body, const RequestDefaults&,
                                   std::vector<std::string>& ignored);

// Tile limits of a picture: `min_dynamic_patch`, `max_dynamic_patch`, `use_thumbnail`, `detail`.
ImageOptions parse_tiling(const FieldReader&, const MediaDefaults&, const RequestDefaults&);
// A picture or video of a message. `part` is {"type": ..., "image_url": ...}, `at` its place with a
// dot at the end.
MediaPart parse_media_part(const nlohmann::json& part, const std::string& at, const MediaDefaults&,
                           const RequestDefaults&, std::vector<std::string>& ignored);

}  // namespace internvl
