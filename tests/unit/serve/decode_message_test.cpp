#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmath>
#include <random>

#include "serve/decode_job.h"
#include "serve/packets.h"

namespace internvl {
namespace {

DecodeJob some_job() {
    DecodeJob job;
    job.kind = DecodeJob::Kind::clip;
    job.encoded_bytes = 12345;
    job.width = 320;
    job.height = 240;
    job.tiles = {.min_num = 2,
                 .max_num = 7,
                 .thumbnail = false,
                 .tiling = true,
                 .side = 448,
                 .order = PassOrder::horizontal_first};
    job.indices = {0, 3, 17};
    job.video_limits.max_fps = 240;
    job.video_limits.steady = true;
    return job;
}

TEST(DecodeMessage, ComesThrough) {
    const DecodeJob job = some_job();
    const auto read = read_job(to_message(job));
    ASSERT_TRUE(read);
    EXPECT_EQ(to_message(*read), to_message(job));
    EXPECT_EQ(read->indices, job.indices);
    EXPECT_EQ(read->tile_bytes(), 3 * 6 * 448 * 448 * 3);
    const DecodeOutcome outcome{DecodeOutcome::State::done, 320, 240, 23.976, 60, 1.5};
    const auto back = read_outcome(to_message(outcome));
    ASSERT_TRUE(back);
    EXPECT_EQ(to_message(*back), to_message(outcome));
    EXPECT_EQ(back->fps, 23.976);
    EXPECT_EQ(back->resize_ms, 1.5);
}

TEST(DecodeMessage, NothingElseDoes) {
    const auto job = to_message(some_job());
    for (size_t size = 0; size < job.size(); ++size)
        EXPECT_FALSE(read_job(std::span(job).first(size))) << size;
    auto longer = job;
    longer.push_back(0);
    EXPECT_FALSE(read_job(longer));
    const auto outcome = to_message(DecodeOutcome{DecodeOutcome::State::done, 1, 1, 1, 1});
    for (size_t size = 0; size < outcome.size(); ++size)
        EXPECT_FALSE(read_outcome(std::span(outcome).first(size))) << size;

    const auto broken = [](auto change) {
        DecodeJob changed = some_job();
        change(changed);
        return !read_job(to_message(changed));
    };
    EXPECT_TRUE(broken([](DecodeJob& j) { j.width = 0; }));
    EXPECT_TRUE(broken([](DecodeJob& j) { j.height = -1; }));
    EXPECT_TRUE(broken([](DecodeJob& j) { j.encoded_bytes = -1; }));
    EXPECT_TRUE(broken([](DecodeJob& j) { j.tiles.min_num = 8; }));
    EXPECT_TRUE(broken([](DecodeJob& j) { j.tiles.side = 0; }));
    EXPECT_TRUE(broken([](DecodeJob& j) { j.indices = {}; }));
    EXPECT_TRUE(broken([](DecodeJob& j) { j.indices = {3, 3}; }));
    EXPECT_TRUE(broken([](DecodeJob& j) { j.indices = {3, 2}; }));
    EXPECT_TRUE(broken([](DecodeJob& j) { j.indices = {-1}; }));
    EXPECT_TRUE(broken([](DecodeJob& j) { j.kind = DecodeJob::Kind(7); }));
    EXPECT_TRUE(broken([](DecodeJob& j) { j.kind = DecodeJob::Kind::picture; }));  // with indices
    EXPECT_TRUE(broken([](DecodeJob& j) { j.indices.assign(most_indices + 1, 0); }));
    for (const double fps : {-1.0, double(NAN), double(INFINITY)})
        EXPECT_FALSE(read_outcome(to_message({DecodeOutcome::State::done, 1, 1, fps, 1}))) << fps;
    EXPECT_FALSE(read_outcome(to_message({DecodeOutcome::State(9), 1, 1, 1, 1})));
    EXPECT_FALSE(read_outcome(to_message({DecodeOutcome::State::done, -1, 1, 1, 1})));
    EXPECT_FALSE(read_outcome(to_message({DecodeOutcome::State::done, 1, 1, 1, 1, -1})));
}

// Whatever is read out of noise makes sense.
TEST(DecodeMessage, Noise) {
    std::mt19937 random(7);
    const auto job = to_message(some_job());
    for (int i = 0; i < 20'000; ++i) {
        auto bytes = job;
        for (uint32_t changes = 1 + random() % 3; changes > 0; --changes)
            bytes[random() % bytes.size()] = uint8_t(random());
        if (const auto read = read_job(bytes)) {
            EXPECT_EQ(to_message(*read), bytes);
        }
    }
}

TEST(Packets, WithFilesAndWithout) {
    int ends[2];
    ASSERT_EQ(::socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ends), 0);
    const Descriptor a(ends[0]);
    Descriptor b(ends[1]);
    const std::vector<uint8_t> text = {1, 2, 3};
    int pipe_ends[2];
    ASSERT_EQ(::pipe(pipe_ends), 0);
    const Descriptor in(pipe_ends[0]), out(pipe_ends[1]);
    const int files[] = {in.fd, out.fd};
    ASSERT_TRUE(send_packet(a.fd, text, files));
    ASSERT_TRUE(send_packet(a.fd, text));
    {
        Packet packet;
        ASSERT_TRUE(receive_packet(b.fd, packet));
        EXPECT_EQ(packet.bytes, text);
        ASSERT_EQ(packet.file_count, 2);
        EXPECT_EQ(::write(packet.files[1].fd, "x", 1), 1);
        char c = 0;
        EXPECT_EQ(::read(packet.files[0].fd, &c, 1), 1);
        Packet second;
        ASSERT_TRUE(receive_packet(b.fd, second));
        EXPECT_EQ(second.file_count, 0);
    }
    ASSERT_TRUE(send_packet(a.fd, std::vector<uint8_t>(longest_message + 1)));
    Packet packet;
    EXPECT_FALSE(receive_packet(b.fd, packet));
    b.reset();
    EXPECT_FALSE(send_packet(a.fd, text));
    EXPECT_FALSE(receive_packet(a.fd, packet));
}

}  // namespace
}  // namespace internvl
