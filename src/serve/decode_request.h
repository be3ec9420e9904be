#pragma once
#include <functional>
#include <optional>
#include <string>

#include "serve/decode_job.h"
#include "serve/media_loader.h"
#include "serve/worker_process.h"

namespace internvl {

// Inside of the loader: between media as requests know them and jobs as workers know them.

ImageLimits image_limits(const MediaLimits&);
VideoLimits video_limits(const MediaLimits&);

// The job that turns a fetched part into tiles; a clip's indices are made ascending and unique.
DecodeJob decode_job(const FetchedMedia&, const MediaLimits&);

// What the tiles and the pictures before they are cut take at most, in bytes.
struct DecodeCost {
    int64_t tiles = 0, pixels = 0;
};
DecodeCost decode_cost(const DecodeJob&);

// What the client hears of a job that did not end well; none when it did.
std::optional<MediaError> error_of(const MediaPart&, const JobEnd&, const MediaLimits&);
std::string video_bounds(const MediaLimits&);  // in words

// The tiles of a job that ended well, for the request. `adopt` takes them over.
LoadedMedia loaded_media(const FetchedMedia&, const DecodeJob&, std::vector<uint8_t> tiles,
                         const std::function<std::shared_ptr<const Tiles>(Tiles)>& adopt);

}  // namespace internvl
