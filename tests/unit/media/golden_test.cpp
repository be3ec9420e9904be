// The pictures of tests/golden/media against what the model card's own code made of them.
#include "media/decode.h"
#include "media/tile.h"
#include "support.h"

namespace internvl {
namespace {

template <class T>
std::string normalised_digest(const Tiles& tiles, ThreadPool& pool) {
    std::vector<T> values(tiles.rgb.size());
    normalise(tiles, 0, tiles.count, values.data(), &pool);
    return digest_of(values);
}

TEST(GoldenMedia, PicturesTilesAndTensors) {
    const auto expected = read_json(golden_folder + "expected.json").at("images");
    ASSERT_EQ(expected.size(), 25u);
    ThreadPool pool(2);
    for (const auto& [name, picture] : expected.items()) {
        SCOPED_TRACE(name);
        const Image image = load_image(golden_folder + name);
        ASSERT_EQ(nlohmann::json({image.width, image.height}), picture.at("size"));
        ASSERT_EQ(digest_of(image.rgb), picture.at("sha256_rgb"));
        for (const auto& [max_num, at] : picture.at("at").items()) {
            SCOPED_TRACE("max_num " + max_num);
            const Tiles tiles = cut_tiles(image, {.max_num = std::stoi(max_num)}, &pool);
            EXPECT_EQ(nlohmann::json({tiles.grid.columns, tiles.grid.rows}), at.at("grid"));
            EXPECT_EQ(tiles.count, at.at("tiles"));
            EXPECT_EQ(digest_of(tiles.rgb), at.at("sha256_u8"));
            EXPECT_EQ(normalised_digest<float>(tiles, pool), at.at("sha256_f32"));
            EXPECT_EQ(normalised_digest<uint16_t>(tiles, pool), at.at("sha256_bf16"));
        }
    }
}

}  // namespace
}  // namespace internvl
