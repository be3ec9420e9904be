#include <atomic>
#include <cstdlib>
#include <numeric>

#include "base/cpu.h"
#include "base/digest.h"
#include "base/error.h"
#include "base/json.h"
#include "base/parallel.h"
#include "support.h"

namespace internvl {

TEST(Sha256, KnownVectors) {
    EXPECT_EQ(sha256_hex("", 0),
              "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    EXPECT_EQ(Sha256().update("a", 1).update("bc", 2).hex(),
              "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
}

TEST(Sha1, KnownVectors) {
    EXPECT_EQ(Digest(Digest::Kind::sha1).update("abc", 3).hex(),
              "a9993e364706816aba3e25717850c26c9cd0d89d");
    Digest digest(Digest::Kind::sha1);
    digest.update("something else", 14);
    digest = Digest(Digest::Kind::sha1);
    EXPECT_EQ(digest.hex(), "da39a3ee5e6b4b0d3255bfef95601890afd80709");
}

TEST(ErrorText, SaysWhatExpectedFoundWhere) {
    EXPECT_STREQ(Error("bad").what(), "bad");
    EXPECT_STREQ(Error("bad", "1", "2", "file").what(), "bad; expected 1, found 2 (file)");
    EXPECT_STREQ(Error("bad", "", "2").what(), "bad; found 2");
}

TEST(ThreadPool, CoversEveryIndexOnce) {
    for (const int threads : {1, 2, 3, 8}) {
        ThreadPool pool(threads);
        for (int round = 0; round < 300; ++round) {
            std::vector<std::atomic<int>> seen(static_cast<size_t>(round));
            pool.parallel_for(round, 1 + round % 7, [&](int64_t begin, int64_t end, int worker) {
                EXPECT_LT(worker, threads);
                for (int64_t i = begin; i < end; ++i) ++seen[size_t(i)];
            });
            for (const auto& n : seen) ASSERT_EQ(n, 1);
        }
    }
}

TEST(ThreadPool, PassesExceptionsOnAndStaysUsable) {
    ThreadPool pool(3);
    for (int i = 0; i < 20; ++i) {
        EXPECT_THROW(pool.parallel_for(100, 1,
                                       [](int64_t at, int64_t, int) {
                                           if (at == 50) throw Error("stop");
                                       }),
                     Error);
        std::atomic<int> sum = 0;
        pool.parallel_for(100, 1, [&](int64_t at, int64_t, int) { sum += int(at); });
        EXPECT_EQ(sum, 4950);
    }
}

TEST(ThreadPool, ACallFromInsideRunsInline) {
    ThreadPool pool(2);
    std::atomic<int> count = 0;
    pool.parallel_for(4, 1, [&](int64_t, int64_t, int) {
        pool.parallel_for(5, 1, [&](int64_t, int64_t, int) { ++count; });
    });
    EXPECT_EQ(count, 20);
}

TEST(Cpu, ALesserSetCanBeForced) {
    const Isa best = selected_isa();
    setenv("INTERNVL_CPU", "generic", 1);
    EXPECT_EQ(selected_isa(), Isa::generic);
    setenv("INTERNVL_CPU", "pentium", 1);
    EXPECT_THROW(selected_isa(), Error);
    if (best != Isa::avx512_bf16) {
        setenv("INTERNVL_CPU", "avx512_bf16", 1);
        EXPECT_THROW(selected_isa(), Error);
    }
    unsetenv("INTERNVL_CPU");
    EXPECT_GE(usable_cores(), 1);
}

// A node without cores of ours, one with the first, one with all the others.
TEST(Cpu, TheNodeWithTheMostCoresIsHome) {
    const auto nodes = std::filesystem::temp_directory_path() / "internvl_nodes_test";
    const std::vector<int> all = home_cores(nodes.string() + "/none");
    const auto write = [&](int node, const std::string& list) {
        const auto folder = nodes / ("node" + std::to_string(node));
        std::filesystem::create_directories(folder);
        std::ofstream(folder / "cpulist") << list << '\n';
    };
    write(0, "100000-100003");
    write(1, std::to_string(all[0]));
    EXPECT_EQ(home_cores(nodes), std::vector<int>{all[0]});
    if (all.size() > 2) {
        write(2, std::to_string(all[1]) + "-" + std::to_string(all.back()));
        EXPECT_EQ(home_cores(nodes), std::vector<int>(all.begin() + 1, all.end()));
    }
    std::filesystem::remove_all(nodes);
}

TEST(Json, RefusesDuplicatesDepthAndBrokenText) {
    EXPECT_EQ(parse_json(R"({"a":{"b":1},"c":{"b":2}})", "x")["c"]["b"], 2);
    EXPECT_THROW(parse_json(R"({"a":1,"a":2})", "x"), Error);
    EXPECT_THROW(parse_json(std::string(65, '[') + std::string(65, ']'), "x"), Error);
    EXPECT_THROW(parse_json("\"\xff\"", "x"), Error);
    EXPECT_THROW(parse_json("", "x"), Error);
}

}  // namespace internvl
