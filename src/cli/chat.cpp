#include <unistd.h>

#include <cstdio>
#include <memory>

#include "api/data.h"
#include "base/error.h"
#include "base/json.h"
#include "cli/common.h"
#include "cli/ground.h"
#include "cli/interactive.h"

namespace internvl::cli {

namespace {

struct ChatFlags {
    ModelOptions model;
    GenerationFlags generation;
    MediaFlags media;
    GroundFlags ground;
    CompatFlag compat;
    std::optional<std::string> prompt;
    std::string rounds, system;
    bool combine = false, json = false, quiet = false;
};

// One question with what it needs.
struct Asked {
    std::string question;
    std::vector<Media> media;
};

// What a whole run consists of: the questions in order, and how the conversation is set up.
struct Play {
    ChatOptions chat;
    std::vector<Asked> rounds;
};

[[noreturn]] void malformed(const char* expected, const nlohmann::json& found,
                            const std::string& file) {
    throw Error("malformed dialogue", expected, found.dump().substr(0, 80), file);
}

// "images" and "video" of a dialogue file, with their own numbers of tiles and frames.
std::vector<Media> media_of_file(const ChatFlags& flags, const nlohmann::json& file) {
    std::vector<std::string> paths;
    std::vector<ImageOptions> options;
    for (const auto& image : file.value("images", nlohmann::json::array())) {
        if (!image.is_object() || !image.contains("file") || !image["file"].is_string())
            malformed("images with a file each", image, flags.rounds);
        PictureFlags picture = flags.media.picture;
        if (image.contains("max_num") && image["max_num"].is_number_integer())
            picture.max_num = image["max_num"];
        paths.push_back(path_beside(flags.rounds, image["file"]));
        options.push_back(picture.resolved());
    }
    std::vector<Media> media;
    for (Photo& photo : Photo::open_all(paths, options, flags.media.total_max_num))
        media.emplace_back(std::move(photo));
    const nlohmann::json clip = file.value("video", nlohmann::json());
    if (clip.is_null()) return media;
    if (!clip.is_object() || !clip.contains("file") || !clip["file"].is_string())
        malformed("a video with a file", clip, flags.rounds);
    VideoFlags video = flags.media.video;
    if (clip.contains("num_segments") && clip["num_segments"].is_number_integer())
        video.num_segments = clip["num_segments"];
    media.emplace_back(
        Video::open(path_beside(flags.rounds, clip["file"]), video.resolved(flags.media.picture)));
    return media;
}

// --rounds FILE (cli.md): media belong to the first question.
Play play_of_file(const ChatFlags& flags) {
    const nlohmann::json file = parse_json(read_input(flags.rounds), flags.rounds);
    const auto questions = file.find("questions");
    if (!file.is_object() || questions == file.end() || !questions->is_array() ||
        questions->empty())
        throw Error("malformed dialogue", "an object with a list of questions", "", flags.rounds);
    Play play;
    for (const auto& q : *questions) {
        if (!q.is_string()) malformed("questions that are strings", q, flags.rounds);
        play.rounds.push_back({q.get<std::string>(), {}});
    }
    play.rounds[0].media = media_of_file(flags, file);
    if (file.contains("combine") && file["combine"].is_boolean())
        play.chat.combine = file["combine"];
    if (file.contains("system") && file["system"].is_string()) play.chat.system = file["system"];
    return play;
}

nlohmann::ordered_json to_json(const Video& v) {
    return {{"frames", v.frames()},
            {"fps", v.fps()},
            {"frame_count", v.frame_count()},
            {"tiles", v.tiles()},
            {"tokens", tokens_per_tile * v.tiles()}};
}

nlohmann::ordered_json to_json(const Result& r, const Asked& round, const Model& model) {
    double decode_ms = 0, tile_ms = 0;
    nlohmann::ordered_json images = nlohmann::ordered_json::array(), videos = images;
    for (const Media& m : round.media) {
        if (const Video* video = std::get_if<Video>(&m)) {
            videos.push_back(to_json(*video));
            decode_ms += video->data()->decode_ms;
            continue;
        }
        const Photo& p = std::get<Photo>(m);
        images.push_back({{"grid", {p.grid().first, p.grid().second}},
                          {"tiles", p.tiles()},
                          {"tokens", tokens_per_tile * p.tiles()}});
        decode_ms += p.data()->decode_ms;
        tile_ms += p.data()->tile_ms;
    }
    const double media_ms = decode_ms + tile_ms;
    const double decode = r.per_token_ms * double(r.ids.empty() ? 0 : r.ids.size() - 1);
    return {{"prompt", r.prompt},
            {"prompt_ids", r.prompt_ids},
            {"ids", r.ids},
            {"text", r.text},
            {"finish_reason", r.finish_reason},
            {"images", images},
            {"videos", videos},
            {"usage",
             {{"prompt_tokens", r.prompt_ids.size()},
              {"completion_tokens", r.ids.size()},
              {"image_tokens", r.image_tokens},
              {"computed_tiles", r.computed_tiles},
              {"prompt_tokens_details", {{"cached_tokens", r.cached_tokens}}}}},
            {"timings_ms",
             {{"load", model.load_ms()},
              {"decode_media", decode_ms},
              {"tile", tile_ms},
              {"vision", r.vision_ms},
              {"prefill", r.prefill_ms},
              {"first_token", media_ms + r.first_token_ms},
              {"per_token", r.per_token_ms},
              {"total", media_ms + r.first_token_ms + decode}}}};
}

bool write_piece(std::string_view text) {
    return std::fwrite(text.data(), 1, text.size(), stdout) == text.size() &&
           std::fflush(stdout) == 0;
}

void report(const Result& r) {
    std::fprintf(
        stderr,
        "%zu + %zu tokens: first after %.0f ms (vision %.0f, prefill %.0f), then %.1f tokens/s\n",
        r.prompt_ids.size(), r.ids.size(), r.first_token_ms, r.vision_ms, r.prefill_ms,
        r.per_token_ms > 0 ? 1000 / r.per_token_ms : 0.0);
}

int run_play(const ChatFlags& flags, Model& model, const Play& play) {
    ChatOptions options = play.chat;
    options.compat_reference = flags.compat.reference();
    options.combine |= flags.combine;
    if (!flags.system.empty()) options.system = flags.system;
    options.on_tiles = tile_progress(flags.quiet);
    const GenerateOptions generate = flags.generation.resolved(options.compat_reference);
    Chat chat(model, options);
    for (const Asked& round : play.rounds) {
        const Result result = flags.json
                                  ? chat.ask(round.question, round.media, generate)
                                  : chat.ask(round.question, round.media, generate, write_piece);
        if (!flags.json) print_line("");
        if (interrupted()) return 130;
        std::vector<NamedBox> boxes;
        if (flags.ground.wanted())
            boxes = flags.ground.boxes(result.text, std::get<Photo>(round.media[0]));
        if (flags.json) {
            nlohmann::ordered_json object = to_json(result, round, model);
            if (flags.ground.wanted()) object["boxes"] = boxes_json(boxes);
            print_line(object.dump());
        } else if (!flags.quiet) {
            report(result);
            if (flags.ground.wanted() && boxes.empty())
                std::fputs("the answer names no box\n", stderr);
        }
        if (!flags.ground.draw.empty()) flags.ground.write_picture(flags.media, boxes);
    }
    return 0;
}

std::string question_of(const ChatFlags& flags) {
    if (flags.ground.phrase) return grounding_prompt(*flags.ground.phrase);
    return flags.prompt && *flags.prompt != "-" ? *flags.prompt : read_input("-");
}

int chat(const ChatFlags& flags) {
    flags.model.check();
    flags.generation.resolved(flags.compat.reference());  // refuse before the model is loaded
    if (int(flags.prompt.has_value()) + int(flags.ground.phrase.has_value()) +
            int(!flags.rounds.empty()) >
        1)
        throw UsageError("--prompt, --rounds and --ground exclude each other", "one of them", "");
    flags.ground.check(flags.media);
    const bool interactive =
        !flags.prompt && !flags.ground.phrase && flags.rounds.empty() && isatty(STDIN_FILENO);
    Play play;
    if (!flags.rounds.empty())
        play = play_of_file(flags);
    else if (!interactive)
        play.rounds.push_back({question_of(flags), flags.media.open()});
    Model model(flags.model.model, flags.model.for_compat(flags.compat.reference()));
    stop_on_interrupt(&model);
    if (!interactive) return run_play(flags, model, play);
    InteractiveOptions options;
    options.chat.combine = flags.combine;
    options.chat.compat_reference = flags.compat.reference();
    options.chat.on_tiles = tile_progress(flags.quiet);
    options.chat.system = flags.system;
    options.generate = flags.generation.resolved(options.chat.compat_reference);
    options.media = flags.media;
    return talk(model, options);
}

}  // namespace

Run declare_chat(CLI::App& app) {
    auto flags = std::make_shared<ChatFlags>();
    flags->model.declare(app, true);
    flags->model.declare_caches(app);
    flags->media.declare(app);
    flags->ground.declare(app);
    app.add_option("-p,--prompt", flags->prompt,
                   "The question, - for stdin; without it on a terminal: a conversation");
    app.add_option("--rounds", flags->rounds, "Play a whole dialogue from a JSON file")
        ->type_name("FILE");
    app.add_option("--system", flags->system, "System message instead of the model's own");
    app.add_flag("--combine", flags->combine, "All pictures under one <image>");
    app.add_flag("--json", flags->json, "One JSON object per answer");
    app.add_flag("--quiet", flags->quiet, "No timings on stderr");
    flags->generation.declare(app);
    flags->compat.declare(app);
    return [flags] { return chat(*flags); };
}

}  // namespace internvl::cli
