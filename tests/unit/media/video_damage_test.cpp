// Clips that are cut short, changed, or lie about themselves.
#include <map>
#include <random>

#include "media/video.h"
#include "support.h"

namespace internvl {
namespace {

const VideoLimits small = {
    .max_pixels = 1 << 20, .max_frames = 1 << 12, .max_decoded = int64_t(1) << 25};

// What comes of the bytes: a digest over all frames, or the Error.
std::string outcome(std::span<const uint8_t> bytes, ThreadPool* pool = nullptr) {
    std::string text;
    try {
        const VideoFile video(bytes, small, "damaged");
        std::map<int64_t, std::string> seen;
        const std::vector<int64_t> indices = {0, video.frame_count() / 2, -1};
        video.decode(indices, pool, [&](int64_t index, const Image& frame) {
            EXPECT_GE(index, 0);
            EXPECT_LT(index, video.frame_count());
            EXPECT_EQ(frame.rgb.size(), size_t(video.width()) * size_t(video.height()) * 3);
            seen[index] = digest_of(frame.rgb);
        });
        EXPECT_EQ(int64_t(seen.size()), std::min<int64_t>(3, video.frame_count()));
        for (const auto& [index, digest] : seen) text += digest;
        text = sha256_hex(text.data(), text.size());
    } catch (const Error& error) {
        text = error.what();
        EXPECT_NE(text.find("damaged"), std::string::npos) << text;  // names the source
    }
    return text;
}

std::vector<std::vector<uint8_t>> clips() {
    return {read_bytes(golden_folder + "clip_24fps.mp4"),
            read_bytes(golden_folder + "clip_2997fps.mp4"),
            read_bytes(INTERNVL_SOURCE_DIR "/tests/unit/media/trimmed.mp4")};
}

TEST(VideoDamage, CutShort) {
    int errors = 0, lengths = 0;
    for (const auto& clip : clips())
        for (size_t length = 0; length < clip.size(); length += 97, ++lengths)
            errors += outcome(std::span(clip).first(length)).size() != 64;
    EXPECT_GE(lengths, 400);
    EXPECT_GE(errors, lengths - 10);  // the table of an MP4 file stands at its end
}

// Some bytes changed anywhere; the number of threads must not show.
TEST(VideoDamage, ChangedBytes) {
    ThreadPool pool(3);
    std::mt19937 random(20240704);
    int errors = 0, frames = 0;
    for (const auto& clip : clips())
        for (int i = 0; i < 100; ++i) {
            auto bytes = clip;
            for (uint32_t changes = 1 + random() % 8; changes > 0; --changes)
                bytes[random() % bytes.size()] = uint8_t(random());
            const std::string found = outcome(bytes);
            ++(found.size() == 64 ? frames : errors);
            EXPECT_EQ(outcome(bytes, &pool), found) << i;
        }
    EXPECT_GE(errors, 20);
    EXPECT_GE(frames, 20);
}

// The table of frames is where lies are told: changed a byte at a time, hard.
TEST(VideoDamage, ChangedTables) {
    for (const auto& clip : clips()) {
        const std::string_view text(reinterpret_cast<const char*>(clip.data()), clip.size());
        const size_t table = text.find("moov");
        ASSERT_NE(table, text.npos);
        for (size_t at = table; at < clip.size(); at += 11)
            for (const uint8_t value : {uint8_t(0), uint8_t(0xFF)}) {
                auto bytes = clip;
                bytes[at] = value;
                outcome(bytes);
            }
    }
}

TEST(VideoDamage, BeyondTheLimits) {
    const auto clip = read_bytes(golden_folder + "clip_24fps.mp4");
    const auto error_with = [&](VideoLimits limits) {
        return error_of([&] { VideoFile(clip, limits, "clip").frames(std::vector<int64_t>{59}); });
    };
    EXPECT_EQ(error_with({.max_pixels = 320 * 240}), "");
    EXPECT_NE(error_with({.max_pixels = 320 * 240 - 1}).find("too large"), std::string::npos);
    EXPECT_EQ(error_with({.max_frames = 60}), "");
    EXPECT_NE(error_with({.max_frames = 59}).find("too long"), std::string::npos);
    EXPECT_EQ(error_with({.max_decoded = 320 * 240 * 20}), "");
    EXPECT_NE(error_with({.max_decoded = 320 * 240 * 10}).find("decode"), std::string::npos);
}

// Nothing but the bytes is ever read: playlists and the like are no clips.
TEST(VideoDamage, OpensNoOtherFile) {
    for (const std::string text :
         {"#EXTM3U\n#EXTINF:1,\nfile:///etc/passwd\n", "ffconcat version 1.0\nfile /etc/passwd\n",
          "<?xml version=\"1.0\"?><MPD></MPD>", "v=0\r\no=- 0 0 IN IP4 127.0.0.1\r\n"}) {
        const std::vector<uint8_t> bytes(text.begin(), text.end());
        EXPECT_FALSE(is_video(bytes)) << text;
        EXPECT_NE(error_of([&] { VideoFile(bytes, {}, "list"); }), "");
    }
}

}  // namespace
}  // namespace internvl
