#include "serve/estimate.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "api/data.h"
#include "base/base64.h"
#include "media/write_png.h"

namespace internvl {

namespace {

constexpr int kv_block = 16;         // tokens
constexpr int64_t usual_room = 256;  // for an answer whose length nobody named

// The options of one picture or frame as `limit` caps them.
TileOptions capped(const ImageOptions& image, int limit) {
    TileOptions o = tile_options(image);
    o.max_num = std::min(o.max_num, limit);
    o.min_num = std::min(o.min_num, o.max_num);
    return o;
}

// The tiles of all media when no picture has more than `limit`, the thumbnail not counted.
int64_t total_tiles(std::span<const MediaPart> media, std::span<const MediaSize> sizes, int limit) {
    int64_t total = 0;
    for (size_t i = 0; i < media.size(); ++i) {
        const MediaSize& s = sizes[i];
        if (media[i].kind == MediaPart::Kind::video)
            total += int64_t(s.frames) *
                     count_tiles(s.width, s.height, tile_options(media[i].video.image));
        else
            total += count_tiles(s.width, s.height, capped(media[i].image, limit));
    }
    return total;
}

void describe(ChatPlan& plan, std::span<const MediaPart> media, std::span<const MediaSize> sizes,
              std::span<const RequestPlace> places) {
    plan.tiles.clear();
    plan.images.clear();
    plan.videos.clear();
    plan.image_tokens = 0;
    for (size_t i = 0; i < media.size(); ++i) {
        const MediaSize& s = sizes[i];
        const RequestPlace place = i < places.size() ? places[i] : RequestPlace{0, int(i)};
        const bool video = media[i].kind == MediaPart::Kind::video;
        const TileOptions options = tile_options(video ? media[i].video.image : media[i].image);
        const int each = count_tiles(s.width, s.height, options);
        const int count = video ? s.frames : 1;
        plan.tiles.push_back({std::vector<int>(size_t(count), each), video});
        plan.image_tokens += int64_t(each) * count * tokens_per_tile;
        if (video) {
            plan.videos.push_back({place, s, each * count});
        } else {
            const Grid grid = choose_grid(s.width, s.height, options);
            plan.images.push_back(
                {place, s.width, s.height, grid, each > grid.columns * grid.rows, each, 0});
        }
    }
}

// The tiles of each picture and video, for messages.
std::string tiles_text(std::span<const PicturePlace> places) {
    std::string text;
    for (size_t i = 0; i < places.size() && i < 32; ++i)
        text += fmt::format("{}{}", i ? ", " : "", places[i].tiles);
    return places.size() > 32 ? text + ", ..." : text;
}

[[noreturn]] void refuse_length(const Prompt& prompt, int64_t answer, int64_t most,
                                const char* param) {
    const int64_t total = int64_t(prompt.ids.size()), image = prompt.image_tokens();
    std::string found = fmt::format("{} of text", total - image);
    if (image > 0)
        found +=
            fmt::format(", {} of pictures (tiles of each: {})", image, tiles_text(prompt.places));
    refuse("context_length_exceeded", param,
           fmt::format("The request is too long: this model's maximum context length is {} tokens, "
                       "found {}: a prompt of {} ({}) and {} for the completion",
                       most, total + answer, total, found, answer));
}

void refuse_tiles(int64_t total, int64_t most) {
    refuse("too_many_tiles", "max_total_tiles",
           fmt::format("all pictures and frames together may have at most {} tiles, found {}", most,
                       total));
}

// Lowers the limits of all pictures until they fit.
void reduce_tiles(ChatRequest& request, std::span<const MediaSize> sizes, const Prompt& prompt,
                  const RequestLimits& limits) {
    const int64_t text = int64_t(prompt.ids.size()) - prompt.image_tokens();
    const int64_t room =
        request.answer.max_tokens_given ? request.answer.generate.max_new_tokens : usual_room;
    const int64_t fit = std::max<int64_t>(0, limits.max_model_len - text - room) / tokens_per_tile;
    const int64_t budget = std::min<int64_t>(fit, request.max_total_tiles.value_or(INT32_MAX));
    int limit = 1;
    for (const MediaPart& part : request.media)
        if (part.kind == MediaPart::Kind::picture) limit = std::max(limit, part.image.max_num);
    int64_t total = total_tiles(request.media, sizes, limit);
    while (limit > 1 && total > budget) total = total_tiles(request.media, sizes, --limit);
    if (total > request.max_total_tiles.value_or(INT32_MAX))
        refuse_tiles(total, *request.max_total_tiles);
    if (total > budget) refuse_length(prompt, room, limits.max_model_len, "messages");
    for (MediaPart& part : request.media) {
        part.image.max_num = std::min(part.image.max_num, limit);
        part.image.min_num = std::min(part.image.min_num, part.image.max_num);
    }
}

}  // namespace

int frames_of(const MediaPart& part, double fps, int64_t frame_count, int64_t max_frames) {
    if (!part.fps) return part.video.num_segments;
    const double length = fps > 0 ? double(frame_count) / fps : 0;
    const auto [start, end] = part.video.bound.value_or(std::pair(0.0, length));
    const double seconds = std::max(0.0, std::min(end, length) - start);
    return int(std::clamp(std::nearbyint(seconds * *part.fps), 1.0, double(max_frames)));
}

ChatPlan estimate_chat(ChatRequest& request, std::span<const MediaSize> sizes,
                       const Tokenizer& tokenizer, const ChatTemplate& chat,
                       const std::string& system, const RequestLimits& limits) {
    ChatPlan plan;
    const auto build = [&] {
        describe(plan, request.media, sizes, request.places);
        plan.prompt =
            build_prompt(tokenizer, chat, system, request.messages, plan.tiles, request.prompt);
    };
    build();
    if (request.reduce_images) {
        const int64_t before = plan.image_tokens;
        reduce_tiles(request, sizes, plan.prompt, limits);
        if (total_tiles(request.media, sizes, INT32_MAX) * tokens_per_tile != before) build();
    }
    const int64_t tiles = plan.image_tokens / tokens_per_tile;
    if (request.max_total_tiles && tiles > *request.max_total_tiles)
        refuse_tiles(tiles, *request.max_total_tiles);
    plan.text_tokens = int64_t(plan.prompt.ids.size()) - plan.image_tokens;
    return plan;
}

ChatPlan plan_chat(ChatRequest& request, std::span<const MediaSize> sizes,
                   const Tokenizer& tokenizer, const ChatTemplate& chat, const std::string& system,
                   const RequestLimits& limits) {
    ChatPlan plan = estimate_chat(request, sizes, tokenizer, chat, system, limits);
    fit_answer(request.answer, plan.prompt, limits);
    return plan;
}

void fit_answer(AnswerOptions& answer, const Prompt& prompt, const RequestLimits& limits,
                const char* param) {
    GenerateOptions& g = answer.generate;
    const int64_t most = limits.max_model_len, left = most - int64_t(prompt.ids.size());
    if (left < 1)
        refuse_length(prompt, answer.max_tokens_given ? g.max_new_tokens : 1, most, param);
    if (g.max_new_tokens > left) {
        if (answer.max_tokens_given && !limits.clamp_max_tokens)
            refuse_length(prompt, g.max_new_tokens, most, param);
        g.max_new_tokens = int(left);
    }
    g.min_new_tokens = std::min(g.min_new_tokens, g.max_new_tokens);
}

nlohmann::ordered_json tiles_png(const Tiles& tiles) {
    auto list = nlohmann::ordered_json::array();
    const size_t size = size_t(tiles.side) * size_t(tiles.side) * 3;
    for (size_t i = 0; i < size_t(tiles.count); ++i) {
        const auto from = tiles.rgb.begin() + long(i * size);
        const Image tile{tiles.side, tiles.side, {from, from + long(size)}};
        list.push_back("data:image/png;base64," + encode_base64(encode_png(tile)));
    }
    return list;
}

ChatPlan plan_media(const EstimateRequest& request, std::span<const MediaSize> sizes) {
    ChatPlan plan;
    describe(plan, request.media, sizes, {});
    return plan;
}

nlohmann::ordered_json estimate_body(const ChatPlan& plan, bool words, const RequestLimits& limits,
                                     const std::optional<Calibration>& calibration) {
    using Json = nlohmann::ordered_json;
    Json images = Json::array(), videos = Json::array();
    for (const EstimatedPicture& p : plan.images)
        images.push_back({{"index", images.size()},
                          {"width", p.width},
                          {"height", p.height},
                          {"grid", {p.grid.columns, p.grid.rows}},
                          {"thumbnail", p.thumbnail},
                          {"tiles", p.tiles},
                          {"tokens", p.tiles * tokens_per_tile}});
    for (const EstimatedVideo& v : plan.videos)
        videos.push_back({{"index", videos.size()},
                          {"width", v.size.width},
                          {"height", v.size.height},
                          {"frames", v.size.frames},
                          {"indices", v.size.indices},
                          {"tiles", v.tiles},
                          {"tokens", v.tiles * tokens_per_tile}});
    const int64_t total = plan.text_tokens + plan.image_tokens;
    const auto of_words = [&](int64_t value) { return words ? Json(value) : Json(); };
    Json seconds;
    if (calibration)
        seconds = {{"vision", double(plan.image_tokens) / tokens_per_tile * calibration->tile},
                   {"prefill", double(total) * calibration->token}};
    return {{"object", "estimate"},
            {"images", images},
            {"videos", videos},
            {"text_tokens", of_words(plan.text_tokens)},
            {"image_tokens", plan.image_tokens},
            {"prompt_tokens", of_words(total)},
            {"input_tokens", of_words(total)},
            {"max_model_len", limits.max_model_len},
            {"fits", total < limits.max_model_len},
            {"kv_blocks", (total + kv_block - 1) / kv_block},
            {"seconds", seconds}};
}

}  // namespace internvl
