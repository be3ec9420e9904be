#include "cli/ground.h"

#include <cmath>

#include "base/error.h"
#include "io/mapped_file.h"
#include "media/decode.h"
#include "media/draw.h"
#include "media/write_png.h"

namespace internvl::cli {

void GroundFlags::declare(CLI::App& app) {
    const char* group = "Grounding";
    app.add_option("--ground", phrase,
                   "Ask where this is, as the model was trained to; boxes are read from the answer")
        ->type_name("PHRASE")
        ->group(group);
    app.add_option("--draw", draw, "Write the picture with the answer's boxes")
        ->type_name("OUT.png")
        ->group(group);
}

void GroundFlags::check(const MediaFlags& media) const {
    if (wanted() && (media.images.size() != 1 || !media.videos.empty()))
        throw UsageError(
            "--ground and --draw want one picture", "-i FILE, once",
            fmt::format("{} pictures and {} videos", media.images.size(), media.videos.size()));
}

std::vector<NamedBox> GroundFlags::boxes(const std::string& answer, const Photo& photo) const {
    std::vector<NamedBox> list = parse_boxes(answer, photo.width(), photo.height());
    for (NamedBox& b : list)
        if (b.label.empty() && phrase) b.label = *phrase;
    return list;
}

void GroundFlags::write_picture(const MediaFlags& media, const std::vector<NamedBox>& boxes) const {
    const std::string& path = media.images[0];
    const MappedFile file = MappedFile::open(path);
    const std::span bytes(reinterpret_cast<const uint8_t*>(file.bytes().data()),
                          file.bytes().size());
    Image image = decode_image(bytes, {}, path);
    if (media.picture.options.exif_rotate)
        image = oriented(std::move(image), exif_orientation(bytes));
    int number = 0;
    for (const NamedBox& b : boxes)
        draw_box(image, std::lround(b.box.x1), std::lround(b.box.y1), std::lround(b.box.x2),
                 std::lround(b.box.y2), box_colour(number++));
    write_png(image, draw);
}

nlohmann::ordered_json boxes_json(const std::vector<NamedBox>& boxes) {
    nlohmann::ordered_json list = nlohmann::ordered_json::array();
    for (const NamedBox& b : boxes)
        list.push_back({{"label", b.label}, {"box", {b.box.x1, b.box.y1, b.box.x2, b.box.y2}}});
    return list;
}

}  // namespace internvl::cli
