#pragma once
#include "base/parallel.h"
#include "media/frame_index.h"
#include "media/tile.h"
#include "media/video.h"

namespace internvl {

// What the model sees of a clip: some frames, each a picture with tiles of its own.
struct Clip {
    std::vector<int64_t> indices;  // counted from the start of the clip; may repeat
    std::vector<Tiles> frames;     // of each index
};

// A clip's frames are one tile each, unless more are asked for.
constexpr int clip_max_num = 1;

// The model card's load_video up to the normalisation. `on_frame`, if any, sees every different
// frame once. Throws Error as VideoFile::decode, frame_indices and cut_tiles do.
Clip cut_clip(const VideoFile& video, const FrameOptions& frames, const TileOptions& tiles,
              ThreadPool* pool = nullptr,
              const std::function<void(int64_t index, const Image&)>& on_frame = {});

}  // namespace internvl
