#include "io/safetensors.h"

#include <sys/resource.h>

#include <csignal>
#include <cstring>

#include "base/error.h"
#include "io/mapped_file.h"
#include "support.h"

namespace internvl {

static std::string file_of(const std::string& header, size_t data_bytes) {
    const uint64_t length = header.size();
    std::string file(reinterpret_cast<const char*>(&length), 8);
    return file + header + std::string(data_bytes, '\1');
}

static Safetensors parse(const std::string& file) {
    return parse_safetensors(std::as_bytes(std::span(file)), "test");
}

static std::string entry(const std::string& shape, const std::string& offsets,
                         const std::string& dtype = "F32") {
    return R"({"dtype":")" + dtype + R"(","shape":)" + shape + R"(,"data_offsets":)" + offsets +
           "}";
}

TEST(Safetensors, ReadsInTheOrderOfBytesAndCountsHoles) {
    const std::string file =
        file_of(R"({"__metadata__":{"format":"pt"},"b":)" + entry("[2]", "[12,20]") + R"(,"a":)" +
                    entry("[1,1]", "[4,8]") + R"(,"empty":)" + entry("[0]", "[0,0]") + "}",
                24);
    const Safetensors s = parse(file);
    ASSERT_EQ(s.entries.size(), 3u);
    EXPECT_EQ(s.entries[1].name, "a");
    EXPECT_EQ(s.entries[2].name, "b");
    EXPECT_EQ(s.entries[2].shape, (std::vector<int64_t>{2}));
    EXPECT_EQ(s.hole_bytes, 4 + 4 + 4);
    EXPECT_EQ(s.metadata.at("format"), "pt");
}

TEST(Safetensors, RefusesEveryMalformedHeader) {
    const std::pair<const char*, std::string> cases[] = {
        {"empty", ""},
        {"shorter than its length field", std::string("\1\0\0", 3)},
        {"length beyond the file", std::string("\xff\xff\xff\xff\0\0\0\0{}", 10)},
        {"length that overflows", std::string("\xff\xff\xff\xff\xff\xff\xff\xff{}", 10)},
        {"not JSON", file_of("nonsense", 0)},
        {"not an object", file_of("[]", 0)},
        {"not UTF-8", file_of("{\"\xff\":1}", 0)},
        {"entry is a number", file_of(R"({"a":1})", 0)},
        {"no shape", file_of(R"({"a":{"dtype":"F32","data_offsets":[0,0]}})", 0)},
        {"unknown dtype", file_of(R"({"a":)" + entry("[1]", "[0,4]", "F31") + "}", 4)},
        {"negative dimension", file_of(R"({"a":)" + entry("[-1]", "[0,4]") + "}", 4)},
        {"fractional dimension", file_of(R"({"a":)" + entry("[1.5]", "[0,4]") + "}", 4)},
        {"overflowing shape",
         file_of(R"({"a":)" + entry("[4294967296,4294967296]", "[0,4]") + "}", 4)},
        {"shape times type overflows",
         file_of(R"({"a":)" + entry("[4611686018427387904]", "[0,4]") + "}", 4)},
        {"too many dimensions",
         file_of(R"({"a":)" + entry("[1,1,1,1,1,1,1,1,1]", "[0,4]") + "}", 4)},
        {"wrong length", file_of(R"({"a":)" + entry("[2]", "[0,4]") + "}", 8)},
        {"outside the file", file_of(R"({"a":)" + entry("[2]", "[0,8]") + "}", 4)},
        {"end before begin", file_of(R"({"a":)" + entry("[0]", "[4,0]") + "}", 4)},
        {"huge offset",
         file_of(R"({"a":)" + entry("[1]", "[18446744073709551612,18446744073709551616]") + "}",
                 4)},
        {"overlap",
         file_of(R"({"a":)" + entry("[2]", "[0,8]") + R"(,"b":)" + entry("[2]", "[4,12]") + "}",
                 12)},
        {"duplicate key",
         file_of(R"({"a":)" + entry("[1]", "[0,4]") + R"(,"a":)" + entry("[1]", "[4,8]") + "}", 8)},
        {"metadata is not strings", file_of(R"({"__metadata__":{"a":1}})", 0)},
        {"nested too deeply", file_of(std::string(100, '[') + std::string(100, ']'), 0)},
    };
    for (const auto& [what, file] : cases) EXPECT_THROW(parse(file), Error) << what;
}

TEST(Safetensors, WritesWhatItReads) {
    const TemporaryFolder folder;
    const std::string path = folder / "x.safetensors";
    const float values[] = {1, 2, 3};
    {
        SafetensorsWriter writer(path, {{"a", DType::f32, {3}}, {"b", DType::u8, {0}}},
                                 {{"k", "v"}});
        writer.write(values, 4);
        writer.write(values + 1, 8);
        writer.finish();
    }
    const std::string file = read_text(path);
    const Safetensors s = parse(file);
    EXPECT_EQ(s.metadata.at("k"), "v");
    EXPECT_EQ(s.hole_bytes, 0);
    for (const TensorEntry& e : s.entries)
        if (e.name == "a") {
            EXPECT_EQ(std::memcmp(e.bytes.data(), values, 12), 0);
        }
}

TEST(Safetensors, AnUnfinishedFileLeavesNothing) {
    const TemporaryFolder folder;
    const std::string path = folder / "x.safetensors";
    {
        SafetensorsWriter writer(path, {{"a", DType::f32, {3}}});
        EXPECT_THROW(writer.finish(), Error);
        EXPECT_THROW(writer.write(std::string(13, 'x').data(), 13), Error);
    }
    EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
    EXPECT_THROW(SafetensorsWriter(folder / "no/such/x", {}), Error);
}

TEST(Safetensors, AFullDiskIsAnErrorAndLeavesNothing) {
    const TemporaryFolder folder;
    rlimit before;
    getrlimit(RLIMIT_FSIZE, &before);
    const auto handler = std::signal(SIGXFSZ, SIG_IGN);
    const rlimit small{4096, before.rlim_max};
    setrlimit(RLIMIT_FSIZE, &small);
    const std::vector<char> data(1 << 16);
    EXPECT_THROW(
        {
            SafetensorsWriter writer(folder / "x.safetensors", {{"a", DType::u8, {1 << 16}}});
            writer.write(data.data(), data.size());
        },
        Error);
    setrlimit(RLIMIT_FSIZE, &before);
    std::signal(SIGXFSZ, handler);
    EXPECT_TRUE(std::filesystem::is_empty(folder.path()));
}

TEST(Safetensors, FilesOfOtherWriters) {
    REQUIRE_OUTSIDE("data/safetensors");
    int files = 0;
    for (const auto& item :
         std::filesystem::recursive_directory_iterator(outside("data/safetensors"))) {
        if (item.path().extension() != ".safetensors") continue;
        const MappedFile file = MappedFile::open(item.path().string());
        EXPECT_FALSE(parse_safetensors(file.bytes(), item.path().string()).entries.empty())
            << item.path();
        ++files;
    }
    EXPECT_GE(files, 5);
}

}  // namespace internvl
