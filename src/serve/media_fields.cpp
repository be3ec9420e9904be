#include "serve/media_fields.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <limits>

namespace internvl {

using nlohmann::json;

namespace {

constexpr double most_seconds = 1e7;
constexpr const char* picture_fields[] = {"url", "detail", "min_dynamic_patch", "max_dynamic_patch",
                                          "use_thumbnail"};
constexpr const char* video_fields[] = {"url", "num_segments",     "fps", "bound", "start",
                                        "end", "max_dynamic_patch"};

// The limit that a `detail` stands for; none for auto.
std::optional<int> detail_limit(const std::string& detail, const RequestLimits& limits) {
    if (detail == "low") return limits.lmdeploy_details ? 6 : 1;
    if (detail == "medium") return limits.lmdeploy_details ? 12 : 6;
    if (detail == "high")
        return limits.lmdeploy_details ? 24 : std::max(12, limits.checkpoint_tiles);
    if (detail == "original") return 24;
    return std::nullopt;
}

std::optional<int> read_detail(const FieldReader& fields, const RequestLimits& limits) {
    std::string detail;
    if (!fields.text("detail", detail)) return std::nullopt;
    const std::optional<int> limit = detail_limit(detail, limits);
    if (!limit && detail != "auto")
        refuse("invalid_value", fields.place("detail"),
               fmt::format("{} must be low, medium, auto, high or original, found {}",
                           fields.place("detail"), internvl::quoted(detail)));
    if (!limit) return limit;
    return std::min(*limit, int(limits.max_tiles));
}

bool has_scheme(const std::string& url) {
    std::string begin = url.substr(0, 6);
    for (char& c : begin) c = char(std::tolower(uint8_t(c)));
    return begin.starts_with("data:") || begin.starts_with("http:") || begin == "https:" ||
           begin.starts_with("file:");
}

std::string read_url(const FieldReader& fields, const char* code, const RequestLimits& limits) {
    std::string url;
    if (!fields.text("url", url))
        refuse("missing_field", fields.place("url"), fields.place("url") + " is missing");
    if (url.empty() || (!limits.bare_paths && !has_scheme(url)))
        refuse(code, fields.place("url"),
               fmt::format("{} must be a data:, https: or http: address, found {}",
                           fields.place("url"), internvl::quoted(url.substr(0, 16))));
    return url;
}

// [start, end] in seconds, as one list or as two numbers.
std::optional<std::pair<double, double>> read_bound(const FieldReader& fields) {
    std::pair<double, double> bound{0, most_seconds};
    bool given = fields.number("start", 0, most_seconds, bound.first);
    given |= fields.number("end", 0, most_seconds, bound.second);
    if (const json* list = fields.find("bound")) {
        const std::string place = fields.place("bound");
        if (given)
            refuse("invalid_value", place, place + " and start or end cannot be given together");
        if (!list->is_array())
            refuse(
                "invalid_type", place,
                fmt::format("{} must be [start, end] in seconds, found {}", place, shown(*list)));
        if (list->size() != 2 || !(*list)[0].is_number() || !(*list)[1].is_number())
            refuse("invalid_value", place,
                   fmt::format("{} must be [start, end], two numbers of seconds", place));
        bound = {(*list)[0].get<double>(), (*list)[1].get<double>()};
        given = true;
    }
    if (!given) return std::nullopt;
    if (!(bound.first >= 0 && bound.first < bound.second && bound.second <= most_seconds)) {
        const std::string place = fields.place(fields.has("bound") ? "bound" : "end");
        refuse("invalid_value", place,
               fmt::format("{} must lie after the start, which is 0 or later, found {} to {} "
                           "seconds",
                           place, bound.first, bound.second));
    }
    return bound;
}

// num_segments, or frames a second; the frames are limited.
void read_frames(const FieldReader& fields, const char* count_name, const RequestLimits& limits,
                 int& count, std::optional<double>& fps) {
    const json* given = fields.find(count_name);
    if (given && fields.has("fps"))
        refuse("invalid_value", fields.place("fps"),
               fmt::format("{} and {} cannot be given together", fields.place("fps"), count_name));
    if (given && given->is_number_integer() && given->get<double>() > double(limits.max_frames))
        refuse("too_many_frames", fields.place(count_name),
               fmt::format("{} must be 1 to {}, found {}", fields.place(count_name),
                           limits.max_frames, shown(*given)));
    if (fields.integer(count_name, 1, limits.max_frames, count)) fps.reset();
    double rate = 0;
    if (fields.number("fps", 0, 60, rate, true)) fps = rate;
}

MediaPart parse_picture(const FieldReader& fields, const MediaDefaults& media,
                        const RequestDefaults& defaults) {
    MediaPart picture;
    picture.url = read_url(fields, "invalid_image_url", defaults.limits);
    picture.image = parse_tiling(fields, media, defaults);
    return picture;
}

MediaPart parse_video(const FieldReader& fields, const MediaDefaults& media,
                      const RequestDefaults& defaults) {
    const RequestLimits& limits = defaults.limits;
    MediaPart video;
    video.kind = MediaPart::Kind::video;
    video.url = read_url(fields, "invalid_video_url", limits);
    video.video = media.video;
    video.fps = media.fps;
    read_frames(fields, "num_segments", limits, video.video.num_segments, video.fps);
    if (const auto bound = read_bound(fields)) video.video.bound = bound;
    ImageOptions& frame = video.video.image;
    fields.integer("max_dynamic_patch", 1, limits.max_tiles, frame.max_num);
    frame.min_num = std::min(frame.min_num, frame.max_num);
    return video;
}

}  // namespace

ImageOptions parse_tiling(const FieldReader& fields, const MediaDefaults& media,
                          const RequestDefaults& defaults) {
    const RequestLimits& limits = defaults.limits;
    ImageOptions o = media.image;
    if (const auto detail = read_detail(fields, limits)) o.max_num = *detail;
    fields.integer("max_dynamic_patch", 1, limits.max_tiles, o.max_num);
    o.min_num = std::min(o.min_num, o.max_num);
    fields.integer("min_dynamic_patch", 1, o.max_num, o.min_num);
    fields.flag("use_thumbnail", o.thumbnail);
    return o;
}

MediaDefaults parse_media_defaults(const json& body, const RequestDefaults& defaults,
                                   std::vector<std::string>& ignored) {
    const RequestLimits& limits = defaults.limits;
    MediaDefaults media{defaults.image, defaults.video, {}, {}};
    const FieldReader fields(body, "");
    if (const json* kwargs = fields.find("mm_processor_kwargs")) {
        const FieldReader inside(*kwargs, "mm_processor_kwargs.");
        ImageOptions& o = media.image;
        if (inside.integer("max_dynamic_patch", 1, limits.max_tiles, o.max_num))
            media.max_tiles = o.max_num;
        o.min_num = std::min(o.min_num, o.max_num);
        inside.integer("min_dynamic_patch", 1, o.max_num, o.min_num);
        inside.flag("use_thumbnail", o.thumbnail);
        inside.flag("dynamic_image_size", o.tiling);
        static constexpr const char* known[] = {"max_dynamic_patch", "min_dynamic_patch",
                                                "use_thumbnail", "dynamic_image_size"};
        inside.unknown(known, limits.strict_fields, ignored);
    }
    if (const json* kwargs = fields.find("media_io_kwargs")) {
        const FieldReader outer(*kwargs, "media_io_kwargs.");
        static constexpr const char *known[] = {"video"}, *known_of_video[] = {"num_frames", "fps"};
        outer.unknown(known, limits.strict_fields, ignored);
        const json* video = outer.find("video");
        if (video && !video->is_object())
            refuse("invalid_type", "media_io_kwargs.video",
                   "media_io_kwargs.video must be an object, found " + shown(*video));
        if (video) {
            const FieldReader inside(*video, "media_io_kwargs.video.");
            read_frames(inside, "num_frames", limits, media.video.num_segments, media.fps);
            inside.unknown(known_of_video, limits.strict_fields, ignored);
        }
    }
    return media;
}

MediaPart parse_media_part(const json& part, const std::string& at, const MediaDefaults& media,
                           const RequestDefaults& defaults, std::vector<std::string>& ignored) {
    const bool is_video = part.contains("type") && part["type"] == "video_url";
    const char* kind = is_video ? "video_url" : "image_url";
    const FieldReader outer(part, at);
    const json* found = outer.find(kind);
    if (!found) refuse("missing_field", outer.place(kind), outer.place(kind) + " is missing");
    if (!found->is_object() && !found->is_string())
        refuse("invalid_type", outer.place(kind),
               fmt::format("{} must be an object or a string, found {}", outer.place(kind),
                           shown(*found)));
    const json spec = found->is_string() ? json{{"url", *found}} : *found;
    const FieldReader fields(spec, outer.place(kind) + ".");
    MediaPart made =
        is_video ? parse_video(fields, media, defaults) : parse_picture(fields, media, defaults);
    made.param = fields.place("url");
    if (is_video)
        fields.unknown(video_fields, defaults.limits.strict_fields, ignored);
    else
        fields.unknown(picture_fields, defaults.limits.strict_fields, ignored);
    return made;
}

}  // namespace internvl
