#include <fmt/format.h>

#include <cstring>

#include "api/data.h"
#include "base/error.h"
#include "io/mapped_file.h"
#include "media/decode.h"

namespace internvl {

static std::shared_ptr<const Photo::Data> cut(const Image& image, const ImageOptions& options) {
    TileOptions tiling;
    tiling.min_num = options.min_num;
    tiling.max_num = options.max_num;
    tiling.thumbnail = options.thumbnail;
    tiling.tiling = options.tiling;
    return std::make_shared<Photo::Data>(Photo::Data{image.width, image.height, cut_tiles(image, tiling)});
}

static Image decode_as_asked(std::span<const uint8_t> bytes, const ImageOptions& options, const std::string& where) {
    Image image = decode_image(bytes, {}, where);
    return options.exif_rotate ? oriented(std::move(image), exif_orientation(bytes)) : image;
}

Photo Photo::open(const std::string& path, const ImageOptions& options) {
    const MappedFile file = MappedFile::open(path);
    const std::span bytes(reinterpret_cast<const uint8_t*>(file.bytes().data()), file.bytes().size());
    Photo photo;
    photo.data_ = cut(decode_as_asked(bytes, options, path), options);
    return photo;
}

Photo Photo::decode(std::span<const std::byte> file, const ImageOptions& options) {
    const std::span bytes(reinterpret_cast<const uint8_t*>(file.data()), file.size());
    Photo photo;
    photo.data_ = cut(decode_as_asked(bytes, options, "picture in memory"), options);
    return photo;
}

Photo Photo::from_rgb(std::span<const std::byte> rgb, int width, int height, const ImageOptions& options) {
    if (width <= 0 || height <= 0 || rgb.size() != size_t(width) * size_t(height) * 3)
        throw Error("the picture has the wrong number of bytes", fmt::format("{} x {} x 3", width, height),
                    fmt::format("{}", rgb.size()));
    Image image{width, height, std::vector<uint8_t>(rgb.size())};
    std::memcpy(image.rgb.data(), rgb.data(), rgb.size());
    Photo photo;
    photo.data_ = cut(image, options);
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
