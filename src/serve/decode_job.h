#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "media/image.h"
#include "media/tile.h"
#include "media/video.h"

namespace internvl {

// What a media worker is asked: one picture or clip.
struct DecodeJob {
    enum class Kind { picture, clip_header, clip } kind = Kind::picture;
    int64_t encoded_bytes = 0;
    // Not for clip_header:
    int width = 0, height = 0;  // as the header promised, turned if it is to be turned
    TileOptions tiles;
    bool exif_rotate = false;      // picture
    std::vector<int64_t> indices;  // clip: frames, ascending, each once
    // What was promised may have been a lie.
    ImageLimits image_limits;
    VideoLimits video_limits;

    // How much room the tiles take: [frames, tiles, side, side, 3] or [tiles, side, side, 3].
    int64_t tile_bytes() const;
};

// What came of it.
struct DecodeOutcome {
    enum class State { done, unsupported, damaged, too_large } state = State::damaged;
    // Of clip_header:
    int width = 0, height = 0;  // of a frame, turned
    double fps = 0;
    int64_t frame_count = 0;
    // Of picture and clip: how much of the time went into tiles.
    double resize_ms = 0;
};

// Does the job on this thread. `tiles` has tile_bytes() of room. Never throws: what goes wrong is
// the outcome.
DecodeOutcome run_job(const DecodeJob&, std::span<const uint8_t> encoded, std::span<uint8_t> tiles);

// Both as messages between processes. What is read is checked: none for what does not make sense.
std::vector<uint8_t> to_message(const DecodeJob&);
std::vector<uint8_t> to_message(const DecodeOutcome&);
std::optional<DecodeJob> read_job(std::span<const uint8_t> message);
std::optional<DecodeOutcome> read_outcome(std::span<const uint8_t> message);

constexpr size_t longest_message = 64 << 10;  // bytes
constexpr size_t most_indices = 4096;

}  // namespace internvl
