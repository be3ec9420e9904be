#include <fmt/format.h>

#include <charconv>

#include "serve/estimate.h"
#include "serve/media_fields.h"

namespace internvl {

using nlohmann::json;

namespace {

constexpr int most_side = 32'768;  // pixels

// A size in numbers; false when there is none.
bool read_size(const FieldReader& fields, MediaSize& size) {
    const bool wide = fields.integer("width", 1, most_side, size.width);
    const bool high = fields.integer("height", 1, most_side, size.height);
    if (wide != high)
        refuse("missing_field", fields.place(wide ? "height" : "width"),
               fmt::format("{} is missing", fields.place(wide ? "height" : "width")));
    return wide;
}

class EstimateReader {
  public:
    EstimateReader(const json& body, const RequestDefaults& defaults)
        : defaults_(defaults), media_(parse_media_defaults(body, defaults, ignored_)) {}

    void image(const json& entry, const std::string& at) {
        check_object(entry, at);
        const FieldReader fields(entry, at);
        if (fields.has("image_url")) return address(entry, at);
        MediaSize size;
        if (!read_size(fields, size))
            refuse("missing_field", fields.place("width"), fields.place("width") + " is missing");
        MediaPart part;
        part.image = parse_tiling(fields, media_, defaults_);
        add(std::move(part), size);
    }

    void video(const json& entry, const std::string& at) {
        check_object(entry, at);
        const FieldReader fields(entry, at);
        if (fields.has("video_url"))
            return address({{"type", "video_url"}, {"video_url", entry["video_url"]}}, at);
        MediaSize size;
        if (!fields.integer("frames", 1, defaults_.limits.max_frames, size.frames))
            refuse("missing_field", fields.place("frames"), fields.place("frames") + " is missing");
        MediaPart part;
        part.kind = MediaPart::Kind::video;
        part.video = media_.video;
        fields.integer("max_dynamic_patch", 1, defaults_.limits.max_tiles,
                       part.video.image.max_num);
        if (!read_size(fields, size)) size.width = size.height = 448;  // a tile
        add(std::move(part), size);
    }

    EstimateRequest request;

  private:
    static void check_object(const json& entry, const std::string& at) {
        if (!entry.is_object())
            refuse("invalid_type", at.substr(0, at.size() - 1),
                   fmt::format("{} must be an object, found {}", at.substr(0, at.size() - 1),
                               shown(entry)));
    }
    void address(const json& part, const std::string& at) {
        add(parse_media_part(part, at, media_, defaults_, ignored_), {});
    }
    void add(MediaPart part, const MediaSize& size) {
        request.media.push_back(std::move(part));
        request.sizes.push_back(size);
    }

    const RequestDefaults& defaults_;
    std::vector<std::string> ignored_;
    MediaDefaults media_;
};

json query_number(const std::string& text, const std::string& name) {
    int64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size())
        refuse("invalid_type", name,
               fmt::format("{} must be a whole number, found {}", name, internvl::quoted(text)));
    return value;
}

json query_flag(const std::string& text, const std::string& name) {
    if (text == "true" || text == "1") return true;
    if (text != "false" && text != "0")
        refuse("invalid_type", name,
               fmt::format("{} must be true or false, found {}", name, internvl::quoted(text)));
    return false;
}

}  // namespace

EstimateRequest parse_estimate_request(const json& body, const RequestDefaults& defaults) {
    RequestDefaults any = defaults;
    any.limits.strict_fields = any.limits.model_required = false;
    std::vector<std::string> ignored;
    const FieldReader fields(body, "");
    check_fields(body, Field::estimate, any.limits, ignored);
    EstimateReader reader(body, any);
    fields.flag("return_tiles", reader.request.return_tiles);
    if (fields.has("messages")) {
        reader.request.chat = parse_chat_request(body, any, ignored);
        return std::move(reader.request);
    }
    const auto each = [&](const char* name, auto read) {
        const json* list = fields.find(name);
        for (size_t i = 0; list && i < list->size(); ++i)
            read((*list)[i], fmt::format("{}[{}].", name, i));
    };
    each("images", [&](const json& entry, const std::string& at) { reader.image(entry, at); });
    each("videos", [&](const json& entry, const std::string& at) { reader.video(entry, at); });
    if (reader.request.media.empty())
        refuse("missing_field", "images", "images, videos or messages is missing");
    return std::move(reader.request);
}

EstimateRequest parse_estimate_query(std::span<const std::pair<std::string, std::string>> query,
                                     const RequestDefaults& defaults) {
    json image = json::object();
    for (const auto& [name, value] : query) {
        if (name == "width" || name == "height" || name == "max_dynamic_patch" ||
            name == "min_dynamic_patch")
            image[name] = query_number(value, name);
        else if (name == "max_num" || name == "min_num")
            image[name == "max_num" ? "max_dynamic_patch" : "min_dynamic_patch"] =
                query_number(value, name);
        else if (name == "use_thumbnail")
            image[name] = query_flag(value, name);
        else if (name == "detail")
            image[name] = value;
        else
            refuse("unsupported_parameter", name.substr(0, 64),
                   internvl::quoted(name) + " is not known here");
    }
    EstimateReader reader(json::object(), defaults);
    reader.image(image, "");
    return std::move(reader.request);
}

}  // namespace internvl
