#include <filesystem>
#include <memory>

#include "api/data.h"
#include "base/digest.h"
#include "base/error.h"
#include "base/json.h"
#include "base/parallel.h"
#include "cli/common.h"
#include "io/mapped_file.h"
#include "media/decode.h"
#include "media/tile.h"
#include "media/write_png.h"

namespace internvl::cli {

namespace {

struct TilesFlags {
    std::vector<std::string> files;
    PictureFlags picture;
    std::string out;
    bool json = false;
};

Image decode_file(const std::string& path, bool exif_rotate) {
    const MappedFile file = MappedFile::open(path);
    const std::span bytes(reinterpret_cast<const uint8_t*>(file.bytes().data()),
                          file.bytes().size());
    Image image = decode_image(bytes, {}, path);
    return exif_rotate ? oriented(std::move(image), exif_orientation(bytes)) : image;
}

template <class T>
std::string hash_pixels(const Tiles& tiles) {
    Sha256 sha;
    std::vector<T> tile(size_t(3) * size_t(tiles.side) * size_t(tiles.side));
    for (int i = 0; i < tiles.count; ++i) {
        normalise(tiles, i, 1, tile.data());
        sha.update(tile.data(), tile.size() * sizeof(T));
    }
    return sha.hex();
}

nlohmann::ordered_json to_json(const std::string& file, const Image& image, const Tiles& tiles) {
    return {{"file", file},
            {"width", image.width},
            {"height", image.height},
            {"grid", {tiles.grid.columns, tiles.grid.rows}},
            {"tiles", tiles.count},
            {"tokens", tokens_per_tile * tiles.count},
            {"sha256_image", sha256_hex(image.rgb.data(), image.rgb.size())},
            {"sha256_rgb", sha256_hex(tiles.rgb.data(), tiles.rgb.size())},
            {"sha256_f32", hash_pixels<float>(tiles)},
            {"sha256_bf16", hash_pixels<uint16_t>(tiles)}};
}

Image tile_image(const Tiles& tiles, int index) {
    const size_t bytes = size_t(3) * size_t(tiles.side) * size_t(tiles.side);
    const auto from = tiles.rgb.begin() + long(bytes) * index;
    return {tiles.side, tiles.side, {from, from + long(bytes)}};
}

// All tiles on white, in the order of the grid, the thumbnail below.
Image contact_sheet(const Tiles& tiles) {
    constexpr int gap = 8;
    const int columns = tiles.grid.columns, step = tiles.side + gap;
    const int rows = (tiles.count + columns - 1) / columns;
    Image sheet{columns * step + gap, rows * step + gap, {}};
    sheet.rgb.assign(size_t(3) * size_t(sheet.width) * size_t(sheet.height), 255);
    for (int i = 0; i < tiles.count; ++i) {
        const Image tile = tile_image(tiles, i);
        for (int y = 0; y < tiles.side; ++y) {
            const int row = i / columns * step + gap + y, column = i % columns * step + gap;
            std::copy_n(tile.rgb.begin() + long(3) * y * tiles.side, 3 * tiles.side,
                        sheet.rgb.begin() + 3 * (long(row) * sheet.width + column));
        }
    }
    return sheet;
}

void write_tiles(const std::string& folder, const std::string& file, const Tiles& tiles) {
    std::error_code error;
    std::filesystem::create_directories(folder, error);
    if (error) throw Error("cannot make folder", "", error.message(), folder);
    const std::string stem = folder + "/" + std::filesystem::path(file).stem().string();
    for (int i = 0; i < tiles.count; ++i)
        write_png(tile_image(tiles, i), fmt::format("{}_{:02}.png", stem, i));
    write_png(contact_sheet(tiles), stem + "_sheet.png");
}

int tiles(const TilesFlags& flags) {
    const ImageOptions options = flags.picture.resolved();
    choose_grid(1, 1, tile_options(options));  // refuses impossible options before any file is read
    bool failed = false;
    for (const std::string& file : flags.files) {
        try {
            const Image image = decode_file(file, options.exif_rotate);
            const Tiles cut = cut_tiles(image, tile_options(options));
            if (!flags.out.empty()) write_tiles(flags.out, file, cut);
            print_line(flags.json
                           ? to_json(file, image, cut).dump()
                           : fmt::format("{}: {} x {}, grid {} x {}, {} tiles, {} tokens", file,
                                         image.width, image.height, cut.grid.columns, cut.grid.rows,
                                         cut.count, tokens_per_tile * cut.count));
        } catch (const Error& e) {
            failed = true;
            if (flags.json)
                print_line(nlohmann::ordered_json{{"file", file}, {"error", e.what()}}.dump());
            else
                fmt::print(stderr, "internvl: error: {}\n", e.what());
        }
    }
    return failed ? 1 : 0;
}

}  // namespace

Run declare_tiles(CLI::App& app) {
    auto flags = std::make_shared<TilesFlags>();
    app.add_option("files", flags->files, "Pictures")->type_name("FILE")->required();
    app.add_flag("--json", flags->json, "One JSON object per file");
    app.add_option("--out", flags->out, "Write the tiles and a contact sheet as PNG")
        ->type_name("DIR");
    flags->picture.declare(app);
    return [flags] { return tiles(*flags); };
}

}  // namespace internvl::cli
