// What comes out of the workers is what the library gives in one process, bit by bit; and the
// loader's promises about room, order and ends.
#include <csignal>
#include <thread>

#include "attack_files.h"
#include "media_scene.h"
#include "serve/worker_pool.h"

namespace internvl {
namespace {

using namespace std::chrono_literals;

Tiles cut_here(const std::string& file, const TileOptions& options = {}) {
    const std::span bytes(reinterpret_cast<const uint8_t*>(file.data()), file.size());
    return cut_tiles(decode_image(bytes, {}, "golden"), options);
}

TEST(MediaLoader, GoldenPicturesBitByBit) {
    MediaLoader loader(usual_limits());
    const auto images = read_json(golden("media/expected.json")).at("images");
    std::vector<MediaPart> parts;
    std::vector<std::string> files;
    for (const auto& [name, about] : images.items()) {
        files.push_back(read_text(golden("media/" + name)));
        parts.push_back(picture_of(files.back()));
        parts.back().image.max_num = 1 + int(parts.size()) % 12;
        parts.back().image.pillow_12 = parts.size() % 3 == 0;
    }
    const Loaded loaded = load_all(loader, parts);
    ASSERT_EQ(code_of(loaded), "");
    const auto& all = std::get<0>(loaded);
    ASSERT_EQ(all.size(), files.size());
    size_t i = 0;
    int64_t bytes = 0;
    for (const auto& [name, about] : images.items()) {
        const auto& one = std::get<LoadedPicture>(all[i]);
        const Tiles expected = cut_here(files[i], tile_options(parts[i].image));
        EXPECT_EQ(nlohmann::json({one.width, one.height}), about.at("size")) << name;
        EXPECT_EQ(one.grid, expected.grid) << name;
        EXPECT_EQ(one.tiles->grid, expected.grid) << name;
        EXPECT_EQ(one.tiles->count, expected.count) << name;
        EXPECT_EQ(one.tiles->side, expected.side) << name;
        EXPECT_TRUE(one.tiles->rgb == expected.rgb) << name;
        bytes += int64_t(expected.rgb.size());
        ++i;
    }
    EXPECT_EQ(loader.status().decoded_bytes, bytes);  // as long as they are held
    EXPECT_EQ(loader.status().workers_replaced, 0);
}

TEST(MediaLoader, RoomIsGivenBackWithTheTiles) {
    MediaLoader loader(usual_limits());
    {
        const Loaded loaded = load_all(loader, {picture_of(read_text(golden("media/gray.jpg")))});
        EXPECT_EQ(code_of(loaded), "");
        EXPECT_GT(loader.status().decoded_bytes, 0);
    }
    EXPECT_EQ(loader.status().decoded_bytes, 0);
    EXPECT_EQ(code_of(loader, picture_of(black_png(64, 64).substr(0, 80))), "invalid_image");
    EXPECT_EQ(loader.status().decoded_bytes, 0);
    EXPECT_EQ(loader.status().fetching + loader.status().decoding + loader.status().waiting, 0);
}

TEST(MediaLoader, ClipsBitByBit) {
    MediaLoader loader(usual_limits());
    for (const char* name : {"clip_24fps.mp4", "clip_2997fps.mp4"}) {
        const std::string file = read_text(golden(std::string("media/") + name));
        const std::span bytes(reinterpret_cast<const uint8_t*>(file.data()), file.size());
        const VideoFile clip(bytes, {}, name);
        MediaPart part = video_of(file);
        part.video.num_segments = 16;
        part.video.image.max_num = 4;
        const Loaded loaded = load_all(loader, {part});
        ASSERT_EQ(code_of(loaded), "");
        const auto& found = std::get<LoadedVideo>(std::get<0>(loaded).at(0));
        const Clip expected =
            cut_clip(clip, {.num_segments = 16}, tile_options(part.video.image), nullptr);
        EXPECT_EQ(found.fps, clip.fps());
        EXPECT_EQ(found.frame_count, clip.frame_count());
        EXPECT_EQ(found.indices, expected.indices);
        ASSERT_EQ(found.frames.size(), expected.frames.size());
        for (size_t i = 0; i < found.frames.size(); ++i)
            EXPECT_TRUE(found.frames[i]->rgb == expected.frames[i].rgb) << name << ' ' << i;
    }
}

TEST(MediaLoader, FramesThatAreLookedAt) {
    MediaLoader loader(usual_limits());
    const std::string file = read_text(golden("media/clip_24fps.mp4"));  // 60 frames, 2.5 s
    const auto indices = [&](auto change) {
        MediaPart part = video_of(file);
        change(part);
        const Fetched fetched = fetch_all(loader, {part});
        return std::get<0>(fetched).at(0).indices;
    };
    EXPECT_EQ(indices([](MediaPart&) {}).size(), 8u);
    EXPECT_EQ(indices([](MediaPart& p) { p.fps = 2; }).size(), 5u);
    EXPECT_EQ(indices([](MediaPart& p) { p.fps = 60; }).size(), 128u);
    EXPECT_EQ(indices([](MediaPart& p) { p.fps = 0.01; }).size(), 1u);
    EXPECT_EQ(indices([](MediaPart& p) { p.video.num_segments = 1000; }).size(), 128u);
    const auto bound = [&](double start, double end) {
        return indices([&](MediaPart& p) {
            p.video.bound = {start, end};
            p.video.num_segments = 4;
        });
    };
    EXPECT_EQ(bound(1, 2).front(), 24 + 3);
    for (const int64_t index : bound(100, 200)) EXPECT_EQ(index, 59);  // past the end: the last
    for (const int64_t index : bound(2, 200)) EXPECT_LE(index, 59);
}

TEST(MediaLoader, WithoutASandboxTheSameBits) {
    MediaLimits limits = usual_limits();
    limits.sandbox = false;
    limits.worker_program = "/nowhere";
    MediaLoader loader(limits);
    const std::string file = read_text(golden("media/seven_tiles.jpg"));
    const Loaded loaded = load_all(loader, {picture_of(file)});
    ASSERT_EQ(code_of(loaded), "");
    EXPECT_TRUE(std::get<LoadedPicture>(std::get<0>(loaded)[0]).tiles->rgb == cut_here(file).rgb);
    EXPECT_EQ(code_of(loader, picture_of("GIF89a")), "invalid_image");
}

TEST(MediaLoader, StartsOnlyWithWorkers) {
    MediaLimits limits = usual_limits();
    limits.worker_program = "/nowhere/internvl";
    EXPECT_THROW(MediaLoader{limits}, Error);
    limits.worker_program = "/bin/true";  // ends instead of serving
    EXPECT_THROW(MediaLoader{limits}, Error);
    limits = usual_limits();
    limits.media_root = "/nowhere";
    EXPECT_THROW(MediaLoader{limits}, Error);
}

TEST(MediaLoader, ExifTurnsOnlyWhenAsked) {
    MediaLoader loader(usual_limits());
    MediaPart part = picture_of(read_text(golden("media/exif_rotated.jpg")));
    const Loaded plain = load_all(loader, {part});
    part.image.exif_rotate = true;
    const Loaded turned = load_all(loader, {part});
    ASSERT_EQ(code_of(plain) + code_of(turned), "");
    const auto& a = std::get<LoadedPicture>(std::get<0>(plain)[0]);
    const auto& b = std::get<LoadedPicture>(std::get<0>(turned)[0]);
    EXPECT_EQ(std::pair(a.width, a.height), std::pair(b.height, b.width));
}

TEST(MediaLoader, TooManyAtOnceHear429) {
    MediaLimits limits = usual_limits();
    const int64_t tile = 448 * 448 * 3;
    limits.decoded_bytes = 3 * tile + 2 * 300 * 200 * 3;
    limits.decoded_wait = 200ms;
    MediaLoader loader(limits);
    const MediaPart part = picture_of(black_png(300, 200));
    MediaPart small = part;
    small.image.max_num = 1;
    Loaded held = load_all(loader, {small, small});
    ASSERT_EQ(code_of(held), "");
    EXPECT_EQ(code_of(load_all(loader, {small, small})), "queue_full");
    EXPECT_EQ(std::get<MediaError>(load_all(loader, {small, small})).status, 429);
    EXPECT_EQ(code_of(load_all(loader, {small})), "");
    // Room that comes in time.
    std::thread later([&] {
        std::this_thread::sleep_for(50ms);
        held = std::vector<LoadedMedia>();
    });
    EXPECT_EQ(code_of(load_all(loader, {small, small})), "");
    later.join();
    EXPECT_EQ(loader.status().decoded_bytes, 0);
    // What never fits does not wait.
    EXPECT_EQ(code_of(load_all(loader, std::vector(8, small))), "queue_full");
}

TEST(MediaLoader, AWorkerThatDiesIsReplaced) {
    WorkerPool pool({.workers = 1,
                     .worker_bytes = usual_limits().worker_bytes,
                     .program = usual_limits().worker_program});
    const std::string file = black_png(9000, 9000);
    const auto* first = reinterpret_cast<const std::byte*>(file.data());
    const auto bytes = std::make_shared<const std::vector<std::byte>>(first, first + file.size());
    const auto submit = [&](std::promise<JobEnd>& ended) {
        MediaTask task;
        task.bytes = bytes;
        task.job.encoded_bytes = int64_t(file.size());
        task.job.width = task.job.height = 9000;
        task.job.tiles.max_num = 1;
        task.cpu = 60s;
        task.stopped = [] { return false; };
        task.done = [&ended](JobEnd end) { ended.set_value(std::move(end)); };
        pool.submit(std::move(task));
    };
    const auto pid = [&] {
        while (pool.status().pids.empty()) std::this_thread::sleep_for(1ms);
        return pool.status().pids.at(0);
    };
    std::promise<JobEnd> during, after;
    submit(during);
    while (pool.status().running == 0) std::this_thread::sleep_for(1ms);
    std::this_thread::sleep_for(30ms);
    ::kill(pid(), SIGKILL);
    EXPECT_EQ(during.get_future().get().how, JobEnd::How::died);
    // One that dies while it has nothing to do spoils no job.
    while (pool.status().running != 0) std::this_thread::sleep_for(1ms);
    std::this_thread::sleep_for(200ms);  // the new one has started
    ::kill(pid(), SIGKILL);
    std::this_thread::sleep_for(50ms);
    submit(after);
    const JobEnd end = after.get_future().get();
    EXPECT_EQ(end.how, JobEnd::How::answered);
    EXPECT_EQ(end.outcome.state, DecodeOutcome::State::done);
    EXPECT_GE(pool.status().replaced, 1);
}

// A picture that takes a while, cancelled in its worker, behind it, and while it waits for room.
TEST(MediaLoader, EndsSoonAfterItIsCancelled) {
    MediaLimits limits = usual_limits();
    limits.workers = 1;
    limits.picture_cpu = 60s;
    MediaLoader loader(limits);
    Fetched slow = fetch_all(loader, {picture_of(black_png(9000, 9000))});
    Fetched quick = fetch_all(loader, {picture_of(black_png(9, 9))});
    CancelToken first, second;
    Hearing<std::vector<LoadedMedia>> one, two, three;
    loader.decode(std::get<0>(slow), first, one.done());
    std::this_thread::sleep_for(30ms);
    loader.decode(std::get<0>(quick), second, two.done());
    const auto took = [](const CancelToken& token, auto& hearing) {
        const auto start = std::chrono::steady_clock::now();
        token.cancel();
        EXPECT_EQ(code_of(hearing.wait()), "cancelled");
        return std::chrono::steady_clock::now() - start;
    };
    EXPECT_LT(took(second, two), 100ms);
    EXPECT_LT(took(first, one), 100ms);
    EXPECT_EQ(loader.status().decoded_bytes, 0);
    loader.decode(std::get<0>(quick), {}, three.done());
    EXPECT_EQ(code_of(three.wait()), "");
}

TEST(MediaLoader, TheEndCancelsWhatIsUnderWay) {
    Hearing<std::vector<LoadedMedia>> hearing;
    {
        MediaLoader loader(usual_limits());
        Fetched slow = fetch_all(loader, {picture_of(black_png(9000, 9000))});
        loader.decode(std::get<0>(slow), {}, hearing.done());
    }
    EXPECT_EQ(code_of(hearing.wait()), "cancelled");
}

TEST(MediaLoader, NoTimeLeft) {
    MediaLimits limits = usual_limits();
    limits.picture_cpu = 20ms;
    MediaLoader loader(limits);
    EXPECT_EQ(code_of(loader, picture_of(black_png(9000, 9000))), "media_timeout");
    EXPECT_EQ(loader.status().workers_replaced, 1);
}

TEST(MediaLoader, PartsOfARequest) {
    MediaLimits limits = usual_limits();
    limits.request_pixels = 20'000;
    MediaLoader loader(limits);
    const MediaPart part = picture_of(black_png(100, 100));
    EXPECT_EQ(code_of(load_all(loader, {part, part})), "");
    EXPECT_EQ(code_of(load_all(loader, {part, part, part})), "image_too_large");
    EXPECT_EQ(code_of(load_all(loader, {})), "");
    MediaPart bad = picture_of("x");
    bad.param = "the bad one";
    const Loaded loaded = load_all(loader, {part, bad});
    ASSERT_EQ(code_of(loaded), "unsupported_image_format");
    EXPECT_EQ(std::get<MediaError>(loaded).param, "the bad one");
}

}  // namespace
}  // namespace internvl
