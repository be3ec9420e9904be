#include "media/clip.h"

namespace internvl {

Clip cut_clip(const VideoFile& video, const FrameOptions& frames, const TileOptions& tiles,
              ThreadPool* pool, const std::function<void(int64_t index, const Image&)>& on_frame) {
    Clip clip;
    clip.indices = frame_indices(frames, video.fps(), video.frame_count());
    for (int64_t& index : clip.indices) index = video.absolute(index);
    clip.frames.resize(clip.indices.size());
    // Cut as they come: the pictures of many large frames would not fit in memory together.
    video.decode(clip.indices, pool, [&](int64_t index, const Image& frame) {
        if (on_frame) on_frame(index, frame);
        const Tiles cut = cut_tiles(frame, tiles, pool);
        for (size_t i = 0; i < clip.indices.size(); ++i)
            if (clip.indices[i] == index) clip.frames[i] = cut;
    });
    return clip;
}

}  // namespace internvl
