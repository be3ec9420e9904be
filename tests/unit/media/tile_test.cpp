#include "media/tile.h"

#include <optional>

#include "support.h"

namespace internvl {
namespace {

std::string as_json(const std::vector<Grid>& grids) {
    nlohmann::json list = nlohmann::json::array();
    for (const Grid& grid : grids) list.push_back({grid.columns, grid.rows});
    return list.dump();
}

// Spec 1.4: SHA-256 of the list as JSON without blanks, first 16 digits.
TEST(Grids, OrderOfTheReference) {
    struct Case {
        int min, max;
        size_t count;
        const char* digest;
    };
    for (const Case& c :
         {Case{1, 6, 14, "f4219645ea158eb5"}, Case{1, 12, 35, "899b03b2a1c615ab"},
          Case{1, 24, 84, "4364159ec6cceff0"}, Case{1, 40, 158, "1e6dc2f0c66e2a49"}}) {
        const auto grids = candidate_grids(c.min, c.max);
        const std::string text = as_json(grids);
        EXPECT_EQ(grids.size(), c.count);
        EXPECT_EQ(sha256_hex(text.data(), text.size()).substr(0, 16), c.digest) << text;
    }
}

TEST(Grids, OrderOfTheReferenceSpelledOut) {
    EXPECT_EQ(as_json(candidate_grids(1, 4)), "[[1,1],[1,2],[2,1],[3,1],[1,3],[4,1],[1,4],[2,2]]");
    EXPECT_EQ(as_json(candidate_grids(2, 6)),
              "[[1,2],[2,1],[3,1],[1,3],[4,1],[1,4],[2,2],[1,5],[5,1],[6,1],[2,3],[1,6],[3,2]]");
    EXPECT_EQ(as_json(candidate_grids(4, 6)),
              "[[1,4],[2,2],[4,1],[1,5],[5,1],[6,1],[2,3],[1,6],[3,2]]");
    EXPECT_EQ(as_json(candidate_grids(6, 6)), "[[2,3],[1,6],[3,2],[6,1]]");
    EXPECT_EQ(as_json(candidate_grids(12, 12)), "[[1,12],[6,2],[12,1],[3,4],[4,3],[2,6]]");
}

// CPython 3.11's lists for every 1 <= min <= max <= 64, one after the other.
TEST(Grids, OrderForEveryRange) {
    Sha256 digest;
    for (int max = 1; max <= 64; ++max)
        for (int min = 1; min <= max; ++min) {
            const std::string text = as_json(candidate_grids(min, max));
            digest.update(text.data(), text.size());
        }
    EXPECT_EQ(digest.hex(), "803833514c9f70339097f9010523487bfaac225a16f98611cf65aec7ae8a9cf0");
}

// Spec, Appendix A.2: made by Pillow 9.4, where the order of the passes was fixed.
struct Row {
    int width, height;
    Grid grid;
    int count;
    uint32_t crc;
    std::optional<Grid> at_6, at_24;
};

const Row rows[] = {
    {448, 448, {1, 1}, 1, 0x93f3430d, Grid{1, 1}, {}},
    {449, 448, {1, 1}, 1, 0xaaa05b98, {}, {}},
    {100, 100, {1, 1}, 1, 0xa2efb87b, {}, {}},
    {633, 633, {1, 1}, 1, 0x65158a61, {}, {}},
    {634, 634, {2, 2}, 5, 0x45f73c06, {}, {}},
    {640, 480, {4, 3}, 13, 0x4b125e03, Grid{3, 2}, Grid{4, 3}},
    {800, 600, {4, 3}, 13, 0x27957775, {}, {}},
    {1024, 768, {4, 3}, 13, 0x73c738bf, {}, {}},
    {1920, 1080, {4, 2}, 9, 0x9762ff56, Grid{2, 1}, Grid{5, 3}},
    {1080, 1920, {2, 4}, 9, 0xe9b3b056, Grid{1, 2}, Grid{3, 5}},
    {3000, 200, {12, 1}, 13, 0x63654a0e, Grid{6, 1}, Grid{15, 1}},
    {200, 3000, {1, 12}, 13, 0x59f2babc, {}, {}},
    {1000, 667, {3, 2}, 7, 0xdfb40949, {}, {}},
    {1280, 720, {4, 2}, 9, 0xf7678dbb, {}, {}},
    {2000, 2000, {3, 3}, 10, 0xbada1d92, Grid{2, 2}, Grid{4, 4}},
    {896, 448, {2, 1}, 3, 0x82489226, {}, {}},
    {1, 5000, {1, 12}, 13, 0x538e634e, {}, {}},
    {612, 792, {3, 4}, 13, 0x4025e3c3, Grid{2, 3}, {}},
    {1700, 2200, {3, 4}, 13, 0x2a544b77, {}, {}},
    {560, 448, {4, 3}, 13, 0xc01edb3a, Grid{1, 1}, Grid{5, 4}},
    {1125, 900, {4, 3}, 13, 0xb2d99ebc, Grid{3, 2}, Grid{5, 4}},
};

TEST(Tiles, EqualTheReference) {
    ThreadPool pool(2);
    for (const Row& row : rows) {
        SCOPED_TRACE(testing::Message() << row.width << "x" << row.height);
        const Tiles tiles = cut_tiles(synthetic_image(row.width, row.height),
                                      {.order = PassOrder::horizontal_first}, &pool);
        EXPECT_EQ(tiles.grid, row.grid);
        EXPECT_EQ(tiles.count, row.count);
        EXPECT_EQ(tiles.side, 448);
        EXPECT_EQ(crc32_of(tiles.rgb), row.crc);
        if (row.at_6) {
            EXPECT_EQ(choose_grid(row.width, row.height, {.max_num = 6}), *row.at_6);
        }
        if (row.at_24) {
            EXPECT_EQ(choose_grid(row.width, row.height, {.max_num = 24}), *row.at_24);
        }
    }
}

TEST(Grids, ShapesHalfWayBetweenTwoGrids) {
    struct Case {
        int width, height;
        Grid grid;
    };
    for (const Case& c : {Case{7, 8, {1, 1}}, Case{700, 800, {2, 2}}, Case{1400, 1600, {3, 4}},
                          Case{7, 6, {4, 3}}, Case{17, 12, {3, 2}}, Case{7, 12, {2, 3}},
                          Case{600, 4480, {1, 8}}, Case{360, 1600, {1, 5}}, Case{9, 40, {1, 4}}})
        EXPECT_EQ(choose_grid(c.width, c.height, {}), c.grid) << c.width << "x" << c.height;
}

TEST(Tiles, Options) {
    const Image image = synthetic_image(640, 480);
    EXPECT_EQ(cut_tiles(image, {.thumbnail = false}).count, 12);
    EXPECT_EQ(cut_tiles(image, {.max_num = 1}).count, 1);
    EXPECT_EQ(choose_grid(640, 480, {.min_num = 12, .max_num = 12}), (Grid{4, 3}));

    const Tiles whole = cut_tiles(image, {.tiling = false});
    EXPECT_EQ(whole.count, 1);
    EXPECT_EQ(whole.rgb, cut_tiles(image, {.max_num = 1}).rgb);

    const Tiles small = cut_tiles(image, {.side = 28});
    EXPECT_EQ(small.side, 28);
    EXPECT_EQ(small.rgb.size(), size_t(small.count) * 28 * 28 * 3);
}

TEST(Tiles, RefusesOptionsWithoutSense) {
    const Image image = synthetic_image(8, 8);
    const auto error = [&](TileOptions options) {
        return error_of([&] { cut_tiles(image, options); });
    };
    EXPECT_NE(error({.max_num = 0}).find("1 to 1024, found 0 (max_num)"), std::string::npos);
    EXPECT_NE(error({.max_num = 1'000'000}).find("max_num"), std::string::npos);
    EXPECT_NE(error({.min_num = 0}).find("min_num"), std::string::npos);
    EXPECT_NE(error({.min_num = 13}).find("1 to 12"), std::string::npos);
    EXPECT_NE(error({.side = 0}).find("side"), std::string::npos);
    EXPECT_THROW(choose_grid(0, 5, {}), Error);
    EXPECT_THROW(cut_tiles(Image{}, {}), Error);
}

// Tiles of 16 x 16 whose pixel i has all three channels i: the normalising table itself, since 16 *
// 16 = 256.
Tiles ramp() {
    Tiles tiles{{1, 1}, 1, 16, {}};
    for (int i = 0; i < 256; ++i) tiles.rgb.insert(tiles.rgb.end(), 3, uint8_t(i));
    return tiles;
}

template <class T>
uint32_t crc_of_values(const std::vector<T>& values) {
    return crc32_of({reinterpret_cast<const uint8_t*>(values.data()), values.size() * sizeof(T)});
}

// Spec 1.6.
TEST(Normalise, TableEqualsTheReference) {
    std::vector<float> wide(3 * 256);
    normalise(ramp(), 0, 1, wide.data());
    EXPECT_EQ(crc_of_values(wide), 0xbd18b1b8u);
    std::vector<uint16_t> narrow(3 * 256);
    normalise(ramp(), 0, 1, narrow.data());
    EXPECT_EQ(crc_of_values(narrow), 0x65f4d4f3u);
    EXPECT_EQ(narrow[0], 0xc008);
    EXPECT_EQ(narrow[255], 0x4010);
    EXPECT_EQ(narrow[256], 0xc002);
    EXPECT_EQ(narrow[512], 0xbfe7);
}

TEST(Normalise, PartsEqualTheWhole) {
    const Tiles tiles = cut_tiles(synthetic_image(640, 480), {});
    const size_t tile = 3 * 448 * 448;
    std::vector<float> whole(tile * size_t(tiles.count)), part(2 * tile);
    ThreadPool pool(2);
    normalise(tiles, 0, tiles.count, whole.data(), &pool);
    normalise(tiles, 5, 2, part.data());
    EXPECT_TRUE(std::equal(part.begin(), part.end(), whole.begin() + int64_t(5 * tile)));
}

}  // namespace
}  // namespace internvl
