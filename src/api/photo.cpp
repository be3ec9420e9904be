#include <fmt/format.h>

#include <cstring>

#include "api/data.h"
#include "base/clock.h"
#include "base/error.h"
#include "io/mapped_file.h"
#include "media/decode.h"

namespace internvl {

TileOptions tile_options(const ImageOptions& o) {
    TileOptions t;
    t.min_num = o.min_num;
    t.max_num = o.max_num;
    t.thumbnail = o.thumbnail;
    t.tiling = o.tiling;
    t.order = o.pillow_12 ? PassOrder::horizontal_first : PassOrder::pillow_13;
    return t;
}

// A picture before it is cut, and how long decoding took.
struct Decoded {
    Image image;
    double ms;
};

static Decoded decode_bytes(std::span<const std::byte> file, bool exif_rotate,
                            const std::string& where) {
    const Stopwatch watch;
    const std::span bytes(reinterpret_cast<const uint8_t*>(file.data()), file.size());
    Image image = decode_image(bytes, {}, where);
    if (exif_rotate) image = oriented(std::move(image), exif_orientation(bytes));
    return {std::move(image), watch.ms()};
}

static std::shared_ptr<const Photo::Data> cut(const Decoded& decoded, const TileOptions& options) {
    const Stopwatch watch;
    Tiles tiles = cut_tiles(decoded.image, options);
    return std::make_shared<Photo::Data>(Photo::Data{decoded.image.width, decoded.image.height,
                                                     std::move(tiles), decoded.ms, watch.ms()});
}

Photo Photo::open(const std::string& path, const ImageOptions& options) {
    Photo photo;
    photo.data_ = cut(decode_bytes(MappedFile::open(path).bytes(), options.exif_rotate, path),
                      tile_options(options));
    return photo;
}

Photo Photo::decode(std::span<const std::byte> file, const ImageOptions& options) {
    Photo photo;
    photo.data_ =
        cut(decode_bytes(file, options.exif_rotate, "picture in memory"), tile_options(options));
    return photo;
}

Photo Photo::from_rgb(std::span<const std::byte> rgb, int width, int height,
                      const ImageOptions& options) {
    if (width <= 0 || height <= 0 || rgb.size() != size_t(width) * size_t(height) * 3)
        throw Error("the picture has the wrong number of bytes",
                    fmt::format("{} x {} x 3", width, height), fmt::format("{}", rgb.size()));
    Image image{width, height, std::vector<uint8_t>(rgb.size())};
    std::memcpy(image.rgb.data(), rgb.data(), rgb.size());
    Photo photo;
    photo.data_ = cut({std::move(image), 0}, tile_options(options));
    return photo;
}

std::vector<Photo> Photo::open_all(const std::vector<std::string>& paths,
                                   const std::vector<ImageOptions>& options, int total_max_num) {
    std::vector<Decoded> decoded;
    std::vector<TileOptions> tiles;
    std::vector<std::pair<int, int>> sizes;
    for (size_t i = 0; i < paths.size(); ++i) {
        decoded.push_back(
            decode_bytes(MappedFile::open(paths[i]).bytes(), options[i].exif_rotate, paths[i]));
        tiles.push_back(tile_options(options[i]));
        sizes.emplace_back(decoded.back().image.width, decoded.back().image.height);
    }
    if (total_max_num > 0) fit_tiles(sizes, tiles, total_max_num);
    std::vector<Photo> photos(paths.size());
    for (size_t i = 0; i < paths.size(); ++i) photos[i].data_ = cut(decoded[i], tiles[i]);
    return photos;
}

int Photo::width() const {
    return data_->width;
}
int Photo::height() const {
    return data_->height;
}
std::pair<int, int> Photo::grid() const {
    return {data_->tiles.grid.columns, data_->tiles.grid.rows};
}
int Photo::tiles() const {
    return data_->tiles.count;
}

}  // namespace internvl
