// Clips against what decord made of them.
#include "media/video.h"

#include <fmt/format.h>

#include "media/clip.h"
#include "support.h"

namespace internvl {
namespace {

std::vector<int64_t> all_frames(const VideoFile& video) {
    std::vector<int64_t> indices;
    for (int64_t i = 0; i < video.frame_count(); ++i) indices.push_back(i);
    return indices;
}

template <class T>
std::string normalised_digest(const Clip& clip) {
    Sha256 sha;
    for (const Tiles& tiles : clip.frames) {
        std::vector<T> values(tiles.rgb.size());
        normalise(tiles, 0, tiles.count, values.data());
        sha.update(values.data(), values.size() * sizeof(T));
    }
    return sha.hex();
}

nlohmann::json golden_clips() {
    return read_json(golden_folder + "expected.json").at("clips");
}

FrameOptions frame_options(const nlohmann::json& segment) {
    FrameOptions options{.num_segments = segment.at("num_segments")};
    if (!segment.at("bound").is_null())
        options.bound = {segment.at("bound")[0], segment.at("bound")[1]};
    return options;
}

TEST(Video, GoldenFrames) {
    const auto clips = golden_clips();
    for (const auto& [name, expected] : clips.items()) {
        SCOPED_TRACE(name);
        const auto bytes = read_bytes(golden_folder + name);
        ASSERT_TRUE(is_video(bytes));
        const VideoFile video(bytes, {}, name);
        EXPECT_EQ(video.frame_count(), expected.at("frames"));
        EXPECT_EQ(video.fps(), std::stod(expected.at("average_fps_hex").get<std::string>()));
        EXPECT_EQ(nlohmann::json({video.width(), video.height()}), expected.at("size"));
        EXPECT_EQ(video.rotation(), 0);
        const auto frames = video.frames(all_frames(video));
        Sha256 all;
        for (size_t i = 0; i < frames.size(); ++i) {
            EXPECT_EQ(digest_of(frames[i].rgb).substr(0, 16),
                      expected.at("sha256_rgb_per_frame")[i])
                << i;
            all.update(frames[i].rgb.data(), frames[i].rgb.size());
        }
        EXPECT_EQ(all.hex(), expected.at("sha256_all_rgb"));
    }
}

TEST(Video, GoldenSegments) {
    ThreadPool pool(2);
    int compared = 0;
    const auto clips = golden_clips();
    for (const auto& [name, expected] : clips.items()) {
        const auto bytes = read_bytes(golden_folder + name);
        const VideoFile video(bytes, {}, name);
        for (const auto& segment : expected.at("segments")) {
            SCOPED_TRACE(name + " " + segment.dump());
            const FrameOptions options = frame_options(segment);
            const auto indices = frame_indices(options, video.fps(), video.frame_count());
            EXPECT_EQ(nlohmann::json(indices), segment.at("indices"));
            const Clip clip = cut_clip(video, options, {.max_num = clip_max_num}, &pool);
            Sha256 rgb;
            for (const Tiles& tiles : clip.frames) rgb.update(tiles.rgb.data(), tiles.rgb.size());
            EXPECT_EQ(clip.frames.size(), segment.at("tiles"));
            EXPECT_EQ(rgb.hex(), segment.at("sha256_u8"));
            EXPECT_EQ(normalised_digest<float>(clip), segment.at("sha256_f32"));
            EXPECT_EQ(normalised_digest<uint16_t>(clip), segment.at("sha256_bf16"));
            ++compared;
        }
    }
    EXPECT_EQ(compared, 22);
}

TEST(Video, IndicesThatRepeatCountBackOrLieOutside) {
    const auto bytes = read_bytes(golden_folder + "clip_24fps.mp4");
    const VideoFile video(bytes, {}, "clip");
    const auto frames = video.frames(std::vector<int64_t>{59, 7, -1, 7, -60, 0});
    ASSERT_EQ(frames.size(), 6u);
    EXPECT_EQ(frames[0].rgb, frames[2].rgb);
    EXPECT_EQ(frames[1].rgb, frames[3].rgb);
    EXPECT_EQ(frames[4].rgb, frames[5].rgb);
    EXPECT_NE(frames[0].rgb, frames[1].rgb);
    for (const int64_t outside : {60, -61})
        EXPECT_NE(error_of([&] {
                      video.frames(std::vector<int64_t>{0, outside});
                  }).find("expected -60 to 59, found " + std::to_string(outside)),
                  std::string::npos);
}

// A frame must not depend on which others are decoded with it, nor on the threads.
TEST(Video, FramesAloneAreFramesTogether) {
    ThreadPool pool(3);
    const auto bytes = read_bytes(golden_folder + "clip_2997fps.mp4");
    const VideoFile video(bytes, {}, "clip");
    const auto together = video.frames(all_frames(video));
    for (int64_t i = 0; i < video.frame_count(); i += 7) {
        const std::vector<int64_t> alone = {i}, some = {89, i, 50, 0};
        EXPECT_EQ(video.frames(alone)[0].rgb, together[size_t(i)].rgb) << i;
        EXPECT_EQ(video.frames(some, &pool)[1].rgb, together[size_t(i)].rgb) << i;
    }
}

// Cut out of clip_24fps.mp4 without encoding it anew: 17 frames are there to be decoded only, then
// come 26. decord counts all, yet reads from the first that is shown until the second key
// frame, 24.
TEST(Video, TrimmedClipsCountAsInDecord) {
    const auto whole_bytes = read_bytes(golden_folder + "clip_24fps.mp4");
    const auto bytes = read_bytes(INTERNVL_SOURCE_DIR "/tests/unit/media/trimmed.mp4");
    const VideoFile whole(whole_bytes, {}, "whole"), trimmed(bytes, {}, "trimmed");
    ASSERT_EQ(trimmed.frame_count(), 43);
    const std::vector<int64_t> indices = {0, 1, 22, 23, 24, 30, 42};
    const std::vector<int64_t> stand_for = {17, 18, 39, 40, 24, 30, 42};
    const auto found = trimmed.frames(indices), expected = whole.frames(stand_for);
    for (size_t i = 0; i < indices.size(); ++i)
        EXPECT_EQ(found[i].rgb, expected[i].rgb) << indices[i];
}

}  // namespace
}  // namespace internvl
