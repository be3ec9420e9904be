#include <cmath>
#include <filesystem>
#include <map>
#include <memory>

#include "api/data.h"
#include "base/cpu.h"
#include "base/digest.h"
#include "base/error.h"
#include "base/json.h"
#include "base/parallel.h"
#include "cli/common.h"
#include "io/mapped_file.h"
#include "media/clip.h"
#include "media/decode.h"
#include "media/tile.h"
#include "media/write_png.h"

namespace internvl::cli {

namespace {

struct TilesFlags {
    std::vector<std::string> files;
    PictureFlags picture;
    VideoFlags video;
    std::string out;
    bool json = false;
};

// A file as the model would see it: a picture, or the frames of a clip, each a picture of its own.
struct Seen {
    int width = 0, height = 0;       // of the picture or of a frame
    std::vector<Tiles> pictures;     // all of one shape
    std::vector<int64_t> frames;     // their indices in the clip; empty for a picture
    nlohmann::ordered_json decoded;  // digests of what was cut into tiles
    nlohmann::ordered_json clip;     // what it was taken from; empty for a picture

    int tiles() const { return int(pictures.size()) * pictures.front().count; }
};

std::string digest_of(const Image& image) {
    return sha256_hex(image.rgb.data(), image.rgb.size());
}

Seen see_picture(std::span<const uint8_t> bytes, const TilesFlags& flags, const std::string& file) {
    const ImageOptions options = flags.picture.resolved();
    Image image = decode_image(bytes, {}, file);
    if (options.exif_rotate) image = oriented(std::move(image), exif_orientation(bytes));
    return {image.width,
            image.height,
            {cut_tiles(image, tile_options(options))},
            {},
            {{"sha256_image", digest_of(image)}},
            nlohmann::ordered_json::object()};
}

Seen see_clip(std::span<const uint8_t> bytes, const TilesFlags& flags, const std::string& file) {
    const VideoOptions options = flags.video.resolved(flags.picture);
    const VideoFile video(bytes, {}, file);
    ThreadPool pool(usable_cores());
    std::map<int64_t, std::string> digests;
    Clip clip =
        cut_clip(video, frame_options(options), tile_options(options.image), &pool,
                 [&](int64_t index, const Image& frame) { digests[index] = digest_of(frame); });
    nlohmann::ordered_json frames = nlohmann::ordered_json::array();
    for (const int64_t index : clip.indices) frames.push_back(digests.at(index));
    return {video.width(),
            video.height(),
            std::move(clip.frames),
            clip.indices,
            {{"sha256_frames", std::move(frames)}},
            {{"frames", clip.indices}, {"fps", video.fps()}, {"frame_count", video.frame_count()}}};
}

Seen see(const std::string& file, const TilesFlags& flags) {
    const MappedFile mapped = MappedFile::open(file);
    const std::span bytes(reinterpret_cast<const uint8_t*>(mapped.bytes().data()),
                          mapped.bytes().size());
    return is_video(bytes) ? see_clip(bytes, flags, file) : see_picture(bytes, flags, file);
}

template <class T>
std::string hash_pixels(const Seen& seen) {
    Sha256 sha;
    for (const Tiles& tiles : seen.pictures) {
        std::vector<T> tile(size_t(3) * size_t(tiles.side) * size_t(tiles.side));
        for (int i = 0; i < tiles.count; ++i) {
            normalise(tiles, i, 1, tile.data());
            sha.update(tile.data(), tile.size() * sizeof(T));
        }
    }
    return sha.hex();
}

nlohmann::ordered_json to_json(const std::string& file, const Seen& seen) {
    const Grid grid = seen.pictures.front().grid;
    Sha256 rgb;
    for (const Tiles& tiles : seen.pictures) rgb.update(tiles.rgb.data(), tiles.rgb.size());
    nlohmann::ordered_json json = {
        {"file", file},          {"width", seen.width},
        {"height", seen.height}, {"grid", {grid.columns, grid.rows}},
        {"tiles", seen.tiles()}, {"tokens", tokens_per_tile * seen.tiles()}};
    json.update(seen.decoded);
    json.update({{"sha256_rgb", rgb.hex()},
                 {"sha256_f32", hash_pixels<float>(seen)},
                 {"sha256_bf16", hash_pixels<uint16_t>(seen)}});
    json.update(seen.clip);
    return json;
}

std::string to_text(const std::string& file, const Seen& seen) {
    const Grid grid = seen.pictures.front().grid;
    const std::string frames =
        seen.frames.empty()
            ? ""
            : fmt::format("{} of {} frames ({}), each ", seen.frames.size(),
                          seen.clip.at("frame_count").dump(), fmt::join(seen.frames, " "));
    return fmt::format("{}: {}{} x {}, grid {} x {}, {} tiles, {} tokens", file, frames, seen.width,
                       seen.height, grid.columns, grid.rows, seen.tiles(),
                       tokens_per_tile * seen.tiles());
}

Image tile_image(const Tiles& tiles, int index) {
    const size_t bytes = size_t(3) * size_t(tiles.side) * size_t(tiles.side);
    const auto from = tiles.rgb.begin() + long(bytes) * index;
    return {tiles.side, tiles.side, {from, from + long(bytes)}};
}

// All tiles on white. Those of a picture in the order of its grid, the thumbnail below; a clip's
// frames one a row, or, when they are single tiles, in a square.
Image contact_sheet(const Seen& seen) {
    constexpr int gap = 8;
    const Tiles& first = seen.pictures.front();
    const int columns = seen.frames.empty() ? first.grid.columns
                        : first.count > 1   ? first.count
                                            : int(std::ceil(std::sqrt(seen.tiles())));
    const int step = first.side + gap, rows = (seen.tiles() + columns - 1) / columns;
    Image sheet{columns * step + gap, rows * step + gap, {}};
    sheet.rgb.assign(size_t(3) * size_t(sheet.width) * size_t(sheet.height), 255);
    for (int i = 0; i < seen.tiles(); ++i) {
        const Image tile = tile_image(seen.pictures[size_t(i / first.count)], i % first.count);
        for (int y = 0; y < first.side; ++y) {
            const int row = i / columns * step + gap + y, column = i % columns * step + gap;
            std::copy_n(tile.rgb.begin() + long(3) * y * first.side, 3 * first.side,
                        sheet.rgb.begin() + 3 * (long(row) * sheet.width + column));
        }
    }
    return sheet;
}

void write_tiles(const std::string& folder, const std::string& file, const Seen& seen) {
    std::error_code error;
    std::filesystem::create_directories(folder, error);
    if (error) throw Error("cannot make folder", "", error.message(), folder);
    const std::string stem = folder + "/" + std::filesystem::path(file).stem().string();
    for (size_t k = 0; k < seen.pictures.size(); ++k) {
        const std::string frame =
            seen.frames.empty() ? "" : fmt::format("_frame{:06}", seen.frames[k]);
        for (int i = 0; i < seen.pictures[k].count; ++i)
            write_png(tile_image(seen.pictures[k], i),
                      fmt::format("{}{}_{:02}.png", stem, frame, i));
    }
    write_png(contact_sheet(seen), stem + "_sheet.png");
}

int tiles(const TilesFlags& flags) {
    // Impossible options are refused before any file is read.
    choose_grid(1, 1, tile_options(flags.picture.resolved()));
    choose_grid(1, 1, tile_options(flags.video.resolved(flags.picture).image));
    bool failed = false;
    for (const std::string& file : flags.files) {
        try {
            const Seen seen = see(file, flags);
            if (!flags.out.empty()) write_tiles(flags.out, file, seen);
            print_line(flags.json ? to_json(file, seen).dump() : to_text(file, seen));
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
    app.add_option("files", flags->files, "Pictures and clips")->type_name("FILE")->required();
    app.add_flag("--json", flags->json, "One JSON object per file");
    app.add_option("--out", flags->out, "Write the tiles and a contact sheet as PNG")
        ->type_name("DIR");
    flags->picture.declare(app);
    flags->video.declare(app);
    return [flags] { return tiles(*flags); };
}

}  // namespace internvl::cli
