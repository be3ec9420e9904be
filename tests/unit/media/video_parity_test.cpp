// Other people's clips against what decord 0.6 and PyAV 10 (FFmpeg 5.1) made of them.
// docs/video_parity.md names every one on which this program differs; the tests fail when its lists
// and the truth part.
#include <numeric>
#include <set>

#include "media/clip.h"
#include "media/decode.h"
#include "support.h"

namespace internvl {
namespace {

const std::string videos = shared_folder + "videos/";

// The first column of the table under a heading: "| `videos/mmcv/test.mp4` | ...".
std::set<std::string> listed_under(const std::string& heading) {
    std::ifstream page(INTERNVL_SOURCE_DIR "/docs/video_parity.md");
    EXPECT_TRUE(page.is_open());
    std::set<std::string> names;
    bool inside = false;
    for (std::string line; std::getline(page, line);) {
        if (line.starts_with("## ")) inside = line.starts_with("## " + heading);
        if (inside && line.starts_with("| `")) names.insert(line.substr(3, line.find('`', 3) - 3));
    }
    return names;
}

// Every clip whose comparison says something is listed, and no other.
template <class F>
void expect_listed(const nlohmann::json& clips, const std::string& heading, F&& difference) {
    const std::set<std::string> listed = listed_under(heading);
    std::set<std::string> differing;
    for (const auto& [name, expected] : clips.items()) {
        const std::string found = difference(name, expected);
        if (found.empty()) continue;
        differing.insert(name);
        if (!listed.contains(name)) ADD_FAILURE() << name << ": " << found;
    }
    EXPECT_EQ(differing, listed) << "docs/video_parity.md is stale";
}

std::vector<int64_t> all_frames(const VideoFile& video) {
    std::vector<int64_t> indices(size_t(video.frame_count()));
    std::iota(indices.begin(), indices.end(), int64_t(0));
    return indices;
}

// Empty when the clip is what decord made of it: count, rate, size and every pixel, or a refusal.
std::string difference_to_decord(const std::string& name, const nlohmann::json& decord) {
    const auto bytes = read_bytes(shared_folder + name);
    try {
        const VideoFile video(bytes, {}, name);
        Sha256 all;
        int64_t next = 0;
        video.decode(all_frames(video), nullptr, [&](int64_t index, const Image& frame) {
            EXPECT_EQ(index, next++);  // without a pool they come in order
            all.update(frame.rgb.data(), frame.rgb.size());
        });
        if (decord.contains("raises")) return "decord refuses";
        if (video.frame_count() != decord.at("frames"))
            return std::to_string(video.frame_count()) + " frames";
        if (video.fps() != std::stod(decord.at("fps").get<std::string>()))
            return std::to_string(video.fps()) + " frames a second";
        if (nlohmann::json({video.width(), video.height()}) != decord.at("size")) return "the size";
        return all.hex() == decord.at("sha256_all_rgb") ? "" : "pixels";
    } catch (const Error& error) {
        return decord.contains("raises") ? "" : error.what();
    }
}

TEST(VideoParity, EveryClipAsInDecordOrListed) {
    if (!std::filesystem::exists(videos + "expected_video.json"))
        GTEST_SKIP() << "no test clips at " << videos;
    const auto clips =
        read_json(INTERNVL_SOURCE_DIR "/tests/unit/media/decord_frames.json").at("files");
    ASSERT_GE(clips.size(), 20u);
    expect_listed(clips, "decord 0.6", difference_to_decord);
}

// The orientation that undoes a turn: PyAV gives frames as they are stored.
int undoing(int rotation) {
    return rotation == 90 ? 8 : rotation == 180 ? 3 : rotation == 270 ? 6 : 1;
}

// Empty when the clip is what PyAV made of it: count, rate, size and the first frame's pixels, or
// an error.
std::string difference_to_pyav(const std::string& name, const nlohmann::json& expected) {
    const auto bytes = read_bytes(shared_folder + name);
    try {
        const VideoFile video(bytes, {}, name);
        const auto& decoded = expected.value("decoded", nlohmann::json::object());
        Image first;
        int64_t frames = 0;
        video.decode(all_frames(video), nullptr, [&](int64_t index, Image frame) {
            ++frames;
            if (index == 0) first = oriented(std::move(frame), undoing(video.rotation()));
        });
        if (decoded.empty()) return "an error was expected";
        if (frames != decoded.at("frames")) return std::to_string(frames) + " frames";
        if (video.fps() != decoded.at("avg_fps").get<double>())
            return std::to_string(video.fps()) + " frames a second";
        if (nlohmann::json({first.width, first.height}) != decoded.at("size")) return "the size";
        return digest_of(first.rgb) == decoded.at("first_rgb24_sha256") ? "" : "the first frame";
    } catch (const Error& error) {
        return expected.contains("decode_exception") ? "" : error.what();
    }
}

TEST(VideoParity, EveryClipAsExpectedOrListed) {
    if (!std::filesystem::exists(videos + "expected_video.json"))
        GTEST_SKIP() << "no test clips at " << videos;
    nlohmann::json clips;
    const auto expected = read_json(videos + "expected_video.json").at("files");
    for (const auto& [name, clip] : expected.items()) clips["videos/" + name] = clip;
    ASSERT_GE(clips.size(), 20u);
    expect_listed(clips, "expected_video.json", difference_to_pyav);
}

TEST(VideoParity, DecordsOwnTests) {
    if (!std::filesystem::exists(videos + "decord_expectations.json"))
        GTEST_SKIP() << "no test clips at " << videos;
    const auto open = [&](const std::string& name) {
        return read_bytes(videos + "decord/" + name);
    };
    const auto pancake = open("flipping_a_pancake.mkv"), unordered = open("unordered.mov"),
               corrupted = open("corrupted.mp4");
    EXPECT_EQ(VideoFile(pancake, {}, "").frame_count(), 310);
    EXPECT_EQ(VideoFile(unordered, {}, "").frame_count(), 4);
    std::vector<int64_t> indices;
    for (int64_t i = 0; i < 40; ++i) indices.push_back(i);
    EXPECT_NE(error_of([&] { VideoFile(corrupted, {}, "").frames(indices); }), "");
    for (const auto& [name, width, height] :
         {std::tuple("video_0.mov", 568, 320), std::tuple("video_180.mov", 568, 320),
          std::tuple("video_90.mov", 320, 568), std::tuple("video_270.mov", 320, 568)}) {
        const auto bytes = open(name);
        const VideoFile video(bytes, {}, name);
        EXPECT_EQ(video.frame_count(), 3);
        EXPECT_EQ(video.width(), width);
        const Image frame = video.frames(std::vector<int64_t>{2})[0];
        EXPECT_EQ(frame.width, width);
        EXPECT_EQ(frame.height, height);
    }
}

// The clip of the model card's example.
TEST(VideoParity, RedPanda) {
    const std::string folder = shared_folder + "card_examples/";
    if (!std::filesystem::exists(folder + "expected_red_panda.json"))
        GTEST_SKIP() << "no model card clip at " << folder;
    const auto expected = read_json(folder + "expected_red_panda.json");
    const auto bytes = read_bytes(folder + "red-panda.mp4");
    const VideoFile video(bytes, {}, "red-panda.mp4");
    EXPECT_EQ(video.frame_count(), expected.at("n_frames"));
    EXPECT_EQ(video.fps(), expected.at("fps").get<double>());
    for (const auto& [segments, indices] : expected.at("card_indices").items()) {
        const int count = std::stoi(segments.substr(segments.find('=') + 1));
        EXPECT_EQ(nlohmann::json(
                      frame_indices({.num_segments = count}, video.fps(), video.frame_count())),
                  indices);
    }
    std::vector<int64_t> indices;
    for (const auto& [index, frame] : expected.at("frames").items())
        indices.push_back(std::stoll(index));
    ASSERT_GE(indices.size(), 50u);
    const auto compare = [&](int64_t index, const Image& image) {
        const auto& frame = expected.at("frames").at(std::to_string(index));
        // Equal RGB needs equal planes.
        EXPECT_EQ(digest_of(image.rgb), frame.at("rgb24_swscale_sha256")) << index;
    };
    ThreadPool pool(4);
    video.decode(indices, &pool, compare);
}

}  // namespace
}  // namespace internvl
