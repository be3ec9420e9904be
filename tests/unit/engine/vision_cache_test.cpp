// What is kept of pictures, in memory and on the disk.
#include "engine/vision_cache.h"

#include <cstring>

#include "support.h"

namespace internvl {

static DigestKey key_of(int content) {
    return Digest().update(&content, sizeof content).key();
}

constexpr int64_t count = 4, width = 8;  // 128 bytes of rows

static Tensor rows_of(int content) {
    Tensor rows = make_tensor(DType::f32, {count, width});
    for (int i = 0; i < count * width; ++i) rows.as<float>()[i] = float(content * 1000 + i);
    return rows;
}

static bool holds(const Tensor& rows, int content) {
    return rows && std::memcmp(rows.data, rows_of(content).data, size_t(rows.bytes())) == 0;
}

static Tensor find(VisionCache& cache, int content) {
    return cache.find(key_of(content), DType::f32, count, width);
}

TEST(VisionCache, KeepsWhatWasUsedLast) {
    VisionCache cache(3 * 128 + 100);
    for (const int c : {1, 2, 3}) cache.keep(key_of(c), rows_of(c));
    EXPECT_TRUE(holds(find(cache, 1), 1));
    cache.keep(key_of(4), rows_of(4));
    EXPECT_EQ(cache.bytes(), 3 * 128);
    EXPECT_FALSE(find(cache, 2));
    for (const int c : {1, 3, 4}) EXPECT_TRUE(holds(find(cache, c), c));
    VisionCache none(0);
    none.keep(key_of(1), rows_of(1));
    EXPECT_FALSE(find(none, 1));
}

TEST(VisionCache, ATilesKeyIsItsBytes) {
    Tiles tiles{{}, 3, 2, std::vector<uint8_t>(3 * 12)};
    tiles.rgb[12] = 1;
    EXPECT_EQ(tile_key(tiles, 0), tile_key(tiles, 2));
    EXPECT_NE(tile_key(tiles, 0), tile_key(tiles, 1));
}

class Files : public testing::Test {
  protected:
    // As another run of the program finds them.
    VisionCache fresh(int identity = 0) {
        VisionCache cache(1 << 20);
        cache.use_files({folder / "rows", key_of(identity)});
        return cache;
    }
    std::string file() const {
        std::string path;
        int files = 0;
        for (const auto& e : std::filesystem::directory_iterator(folder / "rows"))
            path = e.path().string(), ++files;
        EXPECT_EQ(files, 1);
        return path;
    }
    TemporaryFolder folder;
};

TEST_F(Files, AreFoundByAnotherRun) {
    fresh().keep(key_of(5), rows_of(5));
    VisionCache cache = fresh();
    EXPECT_TRUE(holds(find(cache, 5), 5));
    EXPECT_FALSE(find(cache, 6));
    std::filesystem::remove(file());
    EXPECT_TRUE(holds(find(cache, 5), 5));  // in memory by now
    fresh().keep(key_of(5), rows_of(5));
    VisionCache other = fresh(1);
    EXPECT_FALSE(find(other, 5));  // other weights, another machine
    EXPECT_FALSE(fresh().find(key_of(5), DType::bf16, count, width));
    EXPECT_FALSE(fresh().find(key_of(5), DType::f32, count, 2 * width));
}

TEST_F(Files, ThatAreDamagedAreWrittenAnew) {
    fresh().keep(key_of(5), rows_of(5));
    const std::string path = file(), whole = read_text(path);
    std::vector<std::string> damaged = {"", whole.substr(0, 20), whole.substr(0, whole.size() - 1),
                                        whole + "x"};
    for (size_t i = 0; i < whole.size(); i += 3) {
        damaged.push_back(whole);
        damaged.back()[i] = char(damaged.back()[i] ^ 1);
    }
    for (const std::string& text : damaged) {
        std::ofstream(path, std::ios::binary) << text;
        VisionCache cache = fresh();
        EXPECT_FALSE(find(cache, 5));
        cache.keep(key_of(5), rows_of(5));
        EXPECT_EQ(read_text(file()), whole);
    }
    // Another tile's file under this one's name.
    fresh().keep(key_of(6), rows_of(6));
    for (const auto& e : std::filesystem::directory_iterator(folder / "rows"))
        if (e.path() != path) std::filesystem::rename(e.path(), path);
    VisionCache cache = fresh();
    EXPECT_FALSE(find(cache, 5));
}

TEST_F(Files, ThatCannotBeWrittenAreDoneWithout) {
    folder.write("rows", "not a folder");
    testing::internal::CaptureStderr();
    VisionCache cache = fresh();
    for (const int c : {1, 2}) cache.keep(key_of(c), rows_of(c));
    const std::string said = testing::internal::GetCapturedStderr();
    EXPECT_EQ(std::ranges::count(said, '\n'), 1) << said;
    for (const int c : {1, 2}) EXPECT_TRUE(holds(find(cache, c), c));
}

}  // namespace internvl
