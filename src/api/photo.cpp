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

static std::shared_ptr<const Photo::Data> cut(const Image& image, const ImageOptions& options,
                                              double decode_ms) {
    const Stopwatch watch;
    Tiles tiles = cut_tiles(image, tile_options(options));
    return std::make_shared<Photo::Data>(
        Photo::Data{image.width, image.height, std::move(tiles), decode_ms, watch.ms()});
}

static std::shared_ptr<const Photo::Data> decode_and_cut(std::span<const std::byte> file,
                                                         const ImageOptions& options,
                                                         const std::string& where) {
    const Stopwatch watch;
    const std::span bytes(reinterpret_cast<const uint8_t*>(file.data()), file.size());
    Image image = decode_image(bytes, {}, where);
    if (options.exif_rotate) image = oriented(std::move(image), exif_orientation(bytes));
    return cut(image, options, watch.ms());
}

Photo Photo::open(const std::string& path, const ImageOptions& options) {
    Photo photo;
    photo.data_ = decode_and_cut(MappedFile::open(path).bytes(), options, path);
    return photo;
}

Photo Photo::decode(std::span<const std::byte> file, const ImageOptions& options) {
    Photo photo;
    photo.data_ = decode_and_cut(file, options, "picture in memory");
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
    photo.data_ = cut(image, options, 0);
    return photo;
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
