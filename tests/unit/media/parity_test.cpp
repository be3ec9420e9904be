// Other people's pictures against Pillow. docs/image_parity.md names every one on which this
// program differs; the test fails when that list and the truth part.
#include <fmt/format.h>

#include <set>

#include "media/decode.h"
#include "media/tile.h"
#include "support.h"

namespace internvl {
namespace {

// The first column of the page's table: "| `pillow/lab.tif` | ...".
std::set<std::string> listed_differences() {
    std::ifstream page(INTERNVL_SOURCE_DIR "/docs/image_parity.md");
    EXPECT_TRUE(page.is_open());
    std::set<std::string> names;
    for (std::string line; std::getline(page, line);)
        if (line.starts_with("| `")) names.insert(line.substr(3, line.find('`', 3) - 3));
    return names;
}

// Empty when our result is Pillow's: the same picture, or a refusal by both.
std::string difference(const std::string& path, const nlohmann::json& pillow) {
    const bool refused = !pillow.contains("rgb_sha256");
    try {
        const Image image = load_image(path);
        const nlohmann::json size = {image.width, image.height};
        if (refused) return "Pillow refuses: " + pillow.value("message", "");
        if (size != pillow.at("rgb_size")) return "size " + size.dump();
        if (digest_of(image.rgb) == pillow.at("rgb_sha256")) return {};
        std::string start;
        for (size_t i = 0; i < 12 && i < image.rgb.size(); ++i)
            start += fmt::format("{:02x}", image.rgb[i]);
        return fmt::format("pixels: {} for {}", start, pillow.value("rgb_first12", ""));
    } catch (const Error& error) {
        return refused ? "" : error.what();
    }
}

TEST(Parity, EveryPictureAsInPillowOrListed) {
    const std::string folder = shared_folder + "images/";
    if (!std::filesystem::exists(folder + "expected_pil.json"))
        GTEST_SKIP() << "no test pictures at " << folder;
    std::set<std::string> differing;
    const auto expected = read_json(folder + "expected_pil.json").at("files");
    ASSERT_GT(expected.size(), 300u);
    const std::set<std::string> listed = listed_differences();
    for (const auto& [name, pillow] : expected.items()) {
        const std::string found = difference(folder + name, pillow);
        if (found.empty()) continue;
        differing.insert(name);
        if (!listed.contains(name)) ADD_FAILURE() << name << ": " << found;
    }
    EXPECT_EQ(differing, listed) << "docs/image_parity.md is stale";
}

TEST(Parity, ExifOrientationAsInPillow) {
    const std::string folder = shared_folder + "images/";
    if (!std::filesystem::exists(folder + "expected_pil.json"))
        GTEST_SKIP() << "no test pictures at " << folder;
    int turned = 0;
    const auto expected = read_json(folder + "expected_pil.json").at("files");
    for (const auto& [name, pillow] : expected.items()) {
        const std::string format = pillow.value("format", "");
        if ((format != "JPEG" && format != "WEBP") || !pillow.contains("exif_orientation"))
            continue;
        const int orientation = exif_orientation(read_bytes(folder + name));
        EXPECT_EQ(orientation, pillow.at("exif_orientation")) << name;
        turned += orientation > 1;
    }
    EXPECT_GE(turned, 9);
}

// Made with Pillow 9.4.
TEST(Parity, CardExamples) {
    const std::string folder = shared_folder + "card_examples/";
    if (!std::filesystem::exists(folder + "expected_tiles.json"))
        GTEST_SKIP() << "no model card pictures at " << folder;
    ThreadPool pool(2);
    const auto expected = read_json(folder + "expected_tiles.json").at("images");
    ASSERT_GE(expected.size(), 5u);
    for (const auto& [name, picture] : expected.items()) {
        SCOPED_TRACE(name);
        const Image image = load_image(folder + name);
        EXPECT_EQ(digest_of(image.rgb), picture.at("rgb_sha256"));
        for (const auto& [plan, at] : picture.at("plans").items()) {
            SCOPED_TRACE(plan);
            const int max_num = std::stoi(plan.substr(plan.find('=') + 1));
            const Tiles tiles =
                cut_tiles(image, {.max_num = max_num, .order = PassOrder::horizontal_first}, &pool);
            EXPECT_EQ(nlohmann::json({tiles.grid.columns, tiles.grid.rows}), at.at("grid"));
            ASSERT_EQ(tiles.count, at.at("n_tiles"));
            const size_t tile = tiles.rgb.size() / size_t(tiles.count);
            for (size_t i = 0; i < size_t(tiles.count); ++i)
                EXPECT_EQ(sha256_hex(&tiles.rgb[i * tile], tile), at.at("tile_rgb_sha256").at(i));
            std::vector<float> values(tiles.rgb.size());
            normalise(tiles, 0, tiles.count, values.data(), &pool);
            EXPECT_EQ(digest_of(values), at.at("pixel_values_f32_sha256"));
        }
    }
}

}  // namespace
}  // namespace internvl
