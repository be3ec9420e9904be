#pragma once
#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <variant>
#include <vector>

#include "base/cancel.h"
#include "media/tile.h"
#include "serve/media_error.h"
#include "serve/media_limits.h"
#include "serve/media_part.h"

namespace internvl {

// A part whose bytes are here and whose header lies within the limits. Nothing is decoded yet, but
// sizes, and so tiles and tokens, are known.
struct FetchedMedia {
    MediaPart part;  // its tile options may still be changed before it is decoded
    std::shared_ptr<const std::vector<std::byte>> bytes;
    int width = 0, height = 0;     // in pixels, of a frame for a video, as it will be tiled
    double fps = 0;                // video: frames a second on average
    int64_t frame_count = 0;       // video
    std::vector<int64_t> indices;  // video: frames to look at, ascending; may repeat

    bool is_video() const { return part.kind == MediaPart::Kind::video; }
    const ImageOptions& tiling() const { return is_video() ? part.video.image : part.image; }
    int tiles() const;  // of all its frames, thumbnails included
};

struct LoadedPicture {
    int width = 0, height = 0;
    Grid grid;
    std::shared_ptr<const Tiles> tiles;
    double resize_ms = 0;
};

struct LoadedVideo {
    double fps = 0;
    int64_t frame_count = 0;
    std::vector<int64_t> indices;
    std::vector<std::shared_ptr<const Tiles>> frames;  // of each index; equal ones share
    double resize_ms = 0;
};

using LoadedMedia = std::variant<LoadedPicture, LoadedVideo>;

// The media of requests: fetched under the rules for addresses, checked by their headers, decoded
// by workers that can harm nobody. Everything is asynchronous and may be called from any thread.
// `done` is heard exactly once, on a thread of the loader's, and must neither block nor throw. A
// cancelled call ends within 100 ms with status 499.
class MediaLoader {
  public:
    // Throws Error when the sandbox cannot be had or the media root cannot be opened.
    explicit MediaLoader(const MediaLimits& limits);
    ~MediaLoader();  // cancels what is under way and hears it end

    // All parts of one request, in their order; the first that fails ends it. `may_read_files`:
    // the request's key may use file: addresses.
    void fetch(std::vector<MediaPart> parts, bool may_read_files, CancelToken cancel,
               std::function<void(MediaResult<std::vector<FetchedMedia>>)> done);

    // The tiles of what `fetch` gave. Room for them counts as taken until the last Tiles is gone;
    // who waits too long for room hears 429.
    void decode(std::vector<FetchedMedia> media, CancelToken cancel,
                std::function<void(MediaResult<std::vector<LoadedMedia>>)> done);

    struct Status {
        int64_t fetching = 0, decoding = 0, waiting = 0;  // parts
        int64_t decoded_bytes = 0;                        // taken of the limit
        int64_t workers_replaced = 0;                     // since the start
        int workers = 0;                                  // alive now
    };
    Status status() const;

  private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace internvl
