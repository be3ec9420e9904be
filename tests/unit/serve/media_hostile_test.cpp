// The attacks of api.md 4.4 that come as pictures and videos: refused by name, in time, within
// memory, and the next picture is served as if nothing had been.
#include <chrono>
#include <cstdlib>
#include <map>
#include <random>
#include <set>

#include "attack_files.h"
#include "media_scene.h"

namespace internvl {
namespace {

using namespace std::chrono_literals;

// Made for these tests; media/README.md says how.
std::string clip_file(const std::string& name) {
    return INTERNVL_SOURCE_DIR "/tests/unit/serve/media/" + name;
}

class HostileMedia : public testing::Test {
  protected:
    static void SetUpTestSuite() { loader = new MediaLoader(usual_limits()); }
    static void TearDownTestSuite() {
        delete loader;
        loader = nullptr;
    }
    void TearDown() override {
        EXPECT_EQ(code_of(*loader, picture_of(read_text(golden("media/gray.png")))), "");
        EXPECT_EQ(loader->status().decoded_bytes, 0);
    }
    std::string code(const MediaPart& part) {
        const auto start = std::chrono::steady_clock::now();
        const std::string found = code_of(*loader, part);
        took = std::chrono::steady_clock::now() - start;
        return found;
    }
    std::string code(const std::string& file) { return code(picture_of(file)); }

    static MediaLoader* loader;
    std::chrono::nanoseconds took{};
};
MediaLoader* HostileMedia::loader = nullptr;

#ifdef INTERNVL_SANITIZED
constexpr auto second = 10s;
constexpr bool measures_memory = false;
#else
constexpr auto second = 1s;
constexpr bool measures_memory = true;
#endif

TEST_F(HostileMedia, SizesThatAreClaimed) {
    const MediaPart claims[] = {
        picture_of(png_head(65'535, 65'535)),     picture_of(png_head(30'000, 30'000)),
        picture_of(black_png(30'000, 30'000, 0)), picture_of(png_head(0x7FFFFFFF, 0x7FFFFFFF)),
        picture_of(gif(1, 65'535, 65'535)),       picture_of(png_head(32'769, 1))};
    reset_high_water();
    const long before = process_kib("self", "VmRSS");
    for (const MediaPart& part : claims) EXPECT_EQ(code(part), "image_too_large");
    if (measures_memory) {
        EXPECT_LT(process_kib("self", "VmHWM") - before, 64 << 10);
    }
    EXPECT_EQ(loader->status().workers_replaced, 0);  // no worker has seen any of them
}

TEST_F(HostileMedia, SizesThatAreTooMuchTogether) {
    const std::vector<MediaPart> many(32, picture_of(png_head(10'000, 10'000)));
    reset_high_water();
    const long before = process_kib("self", "VmRSS");
    EXPECT_EQ(code_of(load_all(*loader, many)), "image_too_large");
    if (measures_memory) {
        EXPECT_LT(process_kib("self", "VmHWM") - before, 64 << 10);
    }
}

TEST_F(HostileMedia, SizesThatAreFine) {
    EXPECT_EQ(code(black_png(1, 1)), "");
    EXPECT_EQ(code(black_png(1, 32'768)), "");
    EXPECT_EQ(code(black_png(32'768, 1)), "");
    EXPECT_EQ(code(black_png(1, 5000)), "");
    EXPECT_EQ(code(black_png(32'769, 1)), "image_too_large");
    EXPECT_EQ(code(png_head(100, 100)), "invalid_image");  // and nothing behind
}

// The largest that is let in: the memory for it is the worker's, and bounded.
TEST_F(HostileMedia, TheLargestBomb) {
    MediaPart part = picture_of(black_png(10'000, 10'000));
    part.image.max_num = 1;
    reset_high_water();
    const long before = process_kib("self", "VmRSS");
    EXPECT_EQ(code(part), "");
    if (measures_memory) {
        EXPECT_LT(process_kib("self", "VmHWM") - before, 64 << 10);
    }
}

TEST_F(HostileMedia, AWorkerHasSoMuchMemoryAndNoMore) {
    if (!measures_memory) GTEST_SKIP() << "a sanitizer's address space is not limited";
    MediaLimits limits = usual_limits();
    limits.worker_bytes = int64_t(448) << 20;
    MediaLoader small(limits);
    EXPECT_EQ(code_of(small, picture_of(black_png(1000, 1000))), "");
    EXPECT_EQ(code_of(small, picture_of(black_png(10'000, 10'000))), "image_too_large");
    EXPECT_EQ(small.status().workers_replaced, 0);
}

TEST_F(HostileMedia, FramesWithoutEnd) {
    for (const std::string& file : {gif(100'000), apng(100'000), webp(100'000)}) {
        EXPECT_EQ(code(file), "");
        EXPECT_LT(took, second);
    }
}

TEST_F(HostileMedia, ScansWithoutEnd) {
    const std::string jpeg = read_text(golden("media/progressive_420.jpg"));
    EXPECT_EQ(code(repeat_last_scan(jpeg, 20)), "");
    EXPECT_EQ(code(repeat_last_scan(jpeg, 5000)), "invalid_image");
    EXPECT_LT(took, 5 * second);
}

TEST_F(HostileMedia, BloatedChunksAreSkipped) {
    const std::string bomb = zeros(1 << 30);  // a million times what it holds, almost
    const std::string text = png_chunk("zTXt", std::string("Comment\0\0", 9) + bomb);
    const std::string profile = png_chunk("iCCP", std::string("p\0\0", 3) + bomb);
    EXPECT_EQ(code(black_png(9, 9, 2, text)), "");
    EXPECT_EQ(code(black_png(9, 9, 2, profile)), "");
}

TEST_F(HostileMedia, OtherKindsOfFiles) {
    for (const std::string file :
         {"<svg xmlns=\"http://www.w3.org/2000/svg\"><image href=\"file:///etc/passwd\"/></svg>",
          "<?xml version=\"1.0\"?><!DOCTYPE svg [<!ENTITY x SYSTEM \"http://127.0.0.1/\">]>",
          "<!DOCTYPE html><img src=x>", "%PDF-1.7\n\xFF\xD8\xFF", "#EXTM3U\nfile:///etc/passwd",
          "II*", "8BPS", "x", "\xFF", "P6\n1 1\n255\nabc"}) {
        EXPECT_EQ(code(file), "unsupported_image_format") << file;
        EXPECT_EQ(code(video_of(file)), "unsupported_video_format") << file;
    }
    EXPECT_EQ(code(picture_of("")), "invalid_base64");
    // Pictures are no videos, and videos no pictures.
    EXPECT_EQ(code(video_of(read_text(golden("media/rgb_1tile.png")))), "unsupported_video_format");
    EXPECT_EQ(code(read_text(golden("media/clip_24fps.mp4"))), "unsupported_image_format");
    // What the sender calls it does not matter.
    EXPECT_EQ(code(picture("data:text/html;base64," + base64(black_png(3, 3)))), "");
}

TEST_F(HostileMedia, DataAddresses) {
    const std::string data = base64(black_png(3, 3));
    std::string lines;
    for (size_t i = 0; i < data.size(); i += 20) lines += data.substr(i, 20) + "\r\n ";
    std::string bare = data;
    while (bare.ends_with('=')) bare.pop_back();
    EXPECT_EQ(code(picture("data:;base64," + data)), "");
    EXPECT_EQ(code(picture("data:image/png;x=y;base64," + data)), "");
    EXPECT_EQ(code(picture("DATA:image/png;BASE64," + data)), "");
    EXPECT_EQ(code(picture("data:image/png;base64," + lines)), "");
    EXPECT_EQ(code(picture("data:image/png;base64," + bare)), "");
    for (const std::string text : {"", "=", "A", "A===", "AA-_", "AA=A", "%41%41", "A\xC3\xA9=="})
        EXPECT_EQ(code(picture("data:image/png;base64," + text)), "invalid_base64") << text;
    for (const std::string url :
         {"", "data:", "data:image/png", "data:image/png,abc", "data:image/png;base64", "x",
          "data:;base64;x,AAAA", "ftp://a.example/x.png", "/etc/passwd", "gopher://a.example/",
          "file:///etc/passwd", "javascript:1", "blob:x", "http:", "https:a.example"})
        EXPECT_EQ(code(picture(url)), "invalid_image_url") << url;
    EXPECT_EQ(code(picture("data:" + std::string(300, 'x') + ";base64," + data)),
              "invalid_image_url");
    EXPECT_EQ(code(video("x")), "invalid_video_url");
    EXPECT_EQ(code(picture(data)), "invalid_image_url");  // bare base64
}

TEST_F(HostileMedia, EncodedSizes) {
    MediaLimits limits = usual_limits();
    limits.picture_bytes = 1000;
    limits.video_bytes = 2000;
    MediaLoader small(limits);
    EXPECT_EQ(code_of(small, picture_of(std::string(1001, 'x'))), "image_too_large");
    EXPECT_EQ(code_of(small, picture_of(std::string(1000, 'x'))), "unsupported_image_format");
    EXPECT_EQ(code_of(small, video_of(std::string(2001, 'x'))), "video_too_large");
    EXPECT_EQ(code_of(small, picture("data:;base64," + std::string(10'000, ' '))),
              "image_too_large");
}

TEST_F(HostileMedia, NumbersThatClipsTellOfThemselves) {
    const std::string clip = read_text(golden("media/clip_24fps.mp4"));
    const auto refused = [&](const std::string& file) {
        const std::string found = code(video_of(file));
        return found == "video_too_large" || found == "invalid_video" ? "refused" : found;
    };
    EXPECT_EQ(code(video_of(clip)), "");
    EXPECT_EQ(code(video_of(patch_box(clip, "mdhd", 12, 4'000'000'000u))), "video_too_large");
    EXPECT_EQ(code(video_of(patch_box(clip, "mdhd", 12, 1))), "video_too_large");  // for hours
    EXPECT_EQ(refused(patch_box(clip, "mdhd", 12, 0)), "refused");
    // A million hours, in the head of the file.
    const std::string slow = patch_box(patch_box(clip, "mvhd", 12, 1), "mvhd", 16, 3'600'000'000u);
    EXPECT_EQ(refused(patch_box(slow, "tkhd", 20, 3'600'000'000u)), "refused");
    // Rates in AVI's head, and a length in Matroska's that is no number.
    const std::string avi = read_text(clip_file("mjpeg.avi"));
    const size_t stream = avi.find("strh");
    ASSERT_NE(stream, avi.npos);
    const auto with_rate = [&](uint32_t scale, uint32_t rate) {
        std::string file = avi;
        return file.replace(stream + 28, 8, little(scale, 4) + little(rate, 4));
    };
    EXPECT_EQ(code(video_of(with_rate(1, 10))), "");
    EXPECT_EQ(code(video_of(with_rate(1, 1'000'000'000))), "video_too_large");
    EXPECT_EQ(code(video_of(with_rate(1'000'000'000, 1))), "video_too_large");
    const std::string alive = code(video_of(with_rate(1, 0)));  // 25, says the library
    EXPECT_TRUE(alive.empty() || alive == "invalid_video") << alive;
    std::string webm = read_text(clip_file("vp9.webm"));
    const size_t duration = webm.find("\x44\x89\x88");
    ASSERT_NE(duration, webm.npos);
    for (const uint64_t bits : {0x7FF8000000000000u, 0xFFF8000000000000u, 0xC0C3880000000000u,
                                0x7FF0000000000000u, 0x430C6BF526340000u}) {
        for (size_t i = 0; i < 8; ++i) webm[duration + 3 + i] = char(bits >> (56 - 8 * i));
        const std::string found = code(video_of(webm));
        EXPECT_TRUE(found.empty() || found == "invalid_video" || found == "video_too_large")
            << found;
    }
}

TEST_F(HostileMedia, ClipsOfEveryKindThatIsTaken) {
    for (const char* name :
         {"mjpeg.avi", "vp8.webm", "vp9.webm", "hevc.mp4", "av1.mkv", "mpeg4.mp4"}) {
        const Loaded loaded = load_all(*loader, {video_of(read_text(clip_file(name)))});
        ASSERT_EQ(code_of(loaded), "") << name;
        const auto& clip = std::get<LoadedVideo>(std::get<0>(loaded)[0]);
        EXPECT_EQ(clip.frame_count, 6) << name;
        EXPECT_NEAR(clip.fps, 10, 0.01) << name;
    }
    EXPECT_EQ(code(video_of(read_text(golden("media/animated.gif")))), "");
}

TEST_F(HostileMedia, ClipsThatAreNotTaken) {
    EXPECT_EQ(code(video_of(read_text(clip_file("jpeg2000.mp4")))), "unsupported_video_format");
    EXPECT_EQ(code(video_of(read_text(clip_file("audio.mp4")))), "invalid_video");
    EXPECT_EQ(code(video_of(read_text(clip_file("two_sizes.avi")))), "invalid_video");
    EXPECT_EQ(code(video_of(read_text(clip_file("two_sizes_h264.avi")))), "invalid_video");
    MediaLimits limits = usual_limits();
    const auto with = [&](auto change) {
        MediaLimits changed = limits;
        change(changed);
        MediaLoader small(changed);
        return code_of(small, video_of(read_text(clip_file("mpeg4.mp4"))));
    };
    EXPECT_EQ(with([](MediaLimits& l) { l.video_width = 64; }), "");
    EXPECT_EQ(with([](MediaLimits& l) { l.video_height = 48; }), "");
    EXPECT_EQ(with([](MediaLimits& l) { l.video_width = 63; }), "video_too_large");
    EXPECT_EQ(with([](MediaLimits& l) { l.video_height = 47; }), "video_too_large");
    EXPECT_EQ(with([](MediaLimits& l) { l.video_frames = 5; }), "video_too_large");
    EXPECT_EQ(with([](MediaLimits& l) { l.video_rate = 9; }), "video_too_large");
    EXPECT_EQ(with([](MediaLimits& l) { l.video_seconds = 0.5; }), "video_too_large");
    EXPECT_EQ(with([](MediaLimits& l) { l.seek_frames = 3; }), "video_too_large");
}

// How many changed files of each kind are tried; more in a long night.
int mutations(int usual) {
    const char* factor = std::getenv("INTERNVL_MUTATIONS");
    return factor ? usual * std::max(1, std::atoi(factor)) : usual;
}

TEST_F(HostileMedia, CutShortAndChangedPictures) {
    std::mt19937 random(20240711);
    std::map<std::string, int> codes;
    for (const char* name :
         {"baseline_420.jpg", "progressive_420.jpg", "cmyk.jpg", "lossy.webp",
          "lossless_alpha.webp", "gray16.png", "palette_transparent.png", "animated.gif"}) {
        const std::string whole = read_text(golden(std::string("media/") + name));
        for (int i = 0; i < mutations(60); ++i) {
            std::string file = whole;
            if (i % 3 == 0) file.resize(random() % whole.size());
            for (uint32_t changes = i % 3 ? 1 + random() % 6 : 0; changes > 0; --changes)
                file[random() % file.size()] = char(random());
            ++codes[code(file)];
        }
    }
    EXPECT_GE(codes[""], 20);
    EXPECT_GE(codes["invalid_image"], 100);
    const std::set<std::string> known = {"",
                                         "invalid_image",
                                         "image_too_large",
                                         "invalid_base64",
                                         "unsupported_image_format",
                                         "media_timeout"};
    for (const auto& [name, count] : codes) EXPECT_TRUE(known.contains(name)) << name;
}

TEST_F(HostileMedia, CutShortAndChangedClips) {
    std::mt19937 random(20240712);
    std::map<std::string, int> codes;
    for (const char* name : {"clip_24fps.mp4", "clip_2997fps.mp4"}) {
        const std::string whole = read_text(golden(std::string("media/") + name));
        for (int i = 0; i < mutations(40); ++i) {
            std::string file = whole;
            if (i % 4 == 0) file.resize(random() % whole.size());
            for (uint32_t changes = i % 4 ? 1 + random() % 6 : 0; changes > 0; --changes)
                file[random() % file.size()] = char(random());
            ++codes[code(video_of(file))];
        }
    }
    const std::set<std::string> known = {"",
                                         "invalid_video",
                                         "video_too_large",
                                         "invalid_base64",
                                         "unsupported_video_format",
                                         "media_timeout"};
    for (const auto& [name, count] : codes) EXPECT_TRUE(known.contains(name)) << name;
    EXPECT_GE(codes["invalid_video"], 5);
}

}  // namespace
}  // namespace internvl
