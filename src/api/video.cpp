#include "api/data.h"
#include "base/clock.h"
#include "base/cpu.h"
#include "io/mapped_file.h"

namespace internvl {

FrameOptions frame_options(const VideoOptions& o) {
    return {.num_segments = o.num_segments, .bound = o.bound};
}

static std::shared_ptr<const Video::Data> cut(std::span<const std::byte> file,
                                              const VideoOptions& options,
                                              const std::string& where) {
    const Stopwatch watch;
    const VideoFile video({reinterpret_cast<const uint8_t*>(file.data()), file.size()}, {}, where);
    ThreadPool pool(usable_cores());
    Clip clip = cut_clip(video, frame_options(options), tile_options(options.image), &pool);
    return std::make_shared<Video::Data>(Video::Data{video.width(), video.height(),
                                                     video.frame_count(), video.fps(),
                                                     std::move(clip), watch.ms()});
}

Video Video::open(const std::string& path, const VideoOptions& options) {
    Video video;
    video.data_ = cut(MappedFile::open(path).bytes(), options, path);
    return video;
}

Video Video::decode(std::span<const std::byte> file, const VideoOptions& options) {
    Video video;
    video.data_ = cut(file, options, "video in memory");
    return video;
}

const std::vector<int64_t>& Video::frames() const {
    return data_->clip.indices;
}
int64_t Video::frame_count() const {
    return data_->frame_count;
}
double Video::fps() const {
    return data_->fps;
}
int Video::width() const {
    return data_->width;
}
int Video::height() const {
    return data_->height;
}
int Video::tiles() const {
    int all = 0;
    for (const Tiles& frame : data_->clip.frames) all += frame.count;
    return all;
}

}  // namespace internvl
