#include "cli/common.h"

#include <unistd.h>

#include <charconv>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <iostream>
#include <iterator>

#include "base/error.h"
#include "engine/engine.h"
#include "io/mapped_file.h"

namespace internvl::cli {

void ModelOptions::declare(CLI::App& app, bool loads_weights, const std::string& usual_quant) {
    load.quant = usual_quant;
    app.add_option(
           "model", model,
           "A folder in the released layout, a repository id in the Hugging Face cache, or demo "
           "(default: $INTERNVL_MODEL)")
        ->type_name("MODEL");
    if (!loads_weights) return;
    app.add_option("--threads", load.threads, "Threads (default: the cores this process may use)")
        ->check(CLI::Range(1, 4096));
    app.add_option("--dtype", load.dtype, "auto, bf16, fp16 or fp32")->capture_default_str();
    declare_quant(app);
    app.add_option("--kv-cache", load.kv_cache,
                   "Keys and values: auto (as computed) or int8, in half the memory")
        ->capture_default_str();
    app.add_option("--device", device, "auto or cpu (cuda is not in this version)")
        ->capture_default_str();
}

void ModelOptions::declare_caches(CLI::App& app) {
    const char* group = "Caches";
    const LoadOptions usual;
    load.vision_cache_mb = usual.vision_cache_mb;
    load.prefix_cache_mb = usual.prefix_cache_mb;
    app.add_option("--vision-cache", load.vision_cache_folder,
                   "Keep what pictures became on the disk, for other runs (grows without limit)")
        ->type_name("DIR")
        ->group(group);
    app.add_option("--vision-cache-mb", load.vision_cache_mb,
                   "Keep that much of it in memory; 0 = none")
        ->check(CLI::Range(0, 1 << 20))
        ->capture_default_str()
        ->group(group);
    app.add_option("--weight-cache", load.weight_cache_folder,
                   "Keep packed weights on the disk, for other runs to start at once (as large as "
                   "the model)")
        ->type_name("DIR")
        ->group(group);
    app.add_option("--prefix-cache-mb", load.prefix_cache_mb,
                   "Keep that much of what was read, for prompts that begin alike; 0 = none "
                   "(default: 8192 tokens, at least 256)")
        ->check(CLI::Range(0, 1 << 20))
        ->group(group);
}

void ModelOptions::declare_quant(CLI::App& app) {
    app.add_option("--quant", load.quant, "Weights in fewer bits: none, int8 or int4")
        ->capture_default_str();
    const auto part = [&](const char* name, std::string& value, const char* text) {
        app.add_option(name, value, text)->group("Quantisation");
    };
    part("--quant-vision", load.quant_vision, "The vision tower: none or int8");
    part("--quant-projector", load.quant_projector, "The projector: none or int8");
    part("--quant-language", load.quant_language,
         "The layers of the language model: none, int8 or int4");
    part("--quant-head", load.quant_head, "The head: none or int8");
    part(
        "--int8-skip", int8_skip,
        "What the original's 8-bit loading leaves alone, with --compat reference and --quant int8: "
        "head (default), or mlp1.3 as its code of 2024 did");
}

LoadOptions ModelOptions::for_compat(bool reference) const {
    LoadOptions options = load;
    const bool llm_int8 = reference && load.quant == "int8";
    if (!int8_skip.empty() && !llm_int8)
        throw UsageError("--int8-skip has no meaning here", "--compat reference and --quant int8",
                         "");
    if (llm_int8) options.llm_int8_skip = int8_skip.empty() ? "head" : int8_skip;
    return options;
}

void ModelOptions::check() const {
    quant_policy(load);
    parse_kv_cache(load.kv_cache);
    if (device != "auto" && device != "cpu")
        throw UsageError("--device is not in this version", "auto or cpu", device);
}

void GenerationFlags::declare(CLI::App& app) {
    const char* group = "Generation";
    const auto option = [&](const char* name, auto& value, const char* text) {
        app.add_option(name, value, text)->group(group);
    };
    option("--max-new-tokens", max_new_tokens, "Longest answer in tokens (default 1024)");
    option("--min-new-tokens", options.min_new_tokens, "No end before that many tokens");
    app.add_flag("--do-sample", options.do_sample,
                 "Draw tokens; alone: temperature 1, top-k 50, top-p 1")
        ->group(group);
    app.add_flag("--greedy", greedy, "Take the likeliest token (default)")->group(group);
    option("--temperature", options.temperature, "Divides the logits");
    option("--top-k", options.top_k, "Draw from the k likeliest; 0 = all");
    option("--top-p", options.top_p, "Draw from the likeliest that make up p");
    option("--min-p", options.min_p, "Draw from those at least p times as likely as the likeliest");
    option("--typical-p", options.typical_p, "Draw from the locally typical that make up p");
    option("--repetition-penalty", options.repetition_penalty,
           "Above 1: says less twice (sees the answer only)");
    option("--no-repeat-ngram-size", options.no_repeat_ngram_size, "No n-gram twice; 0 = off");
    option("--num-beams", options.num_beams, "Above 1: the best of several answers at once");
    option("--length-penalty", options.length_penalty, "Beams: above 0 favours longer answers");
    app.add_flag("--early-stopping", options.early_stopping,
                 "Beams: end as soon as that many answers are complete")
        ->group(group);
    option("--min-length", options.min_length,
           "As --min-new-tokens, counted as the reference does");
    option("--epsilon-cutoff", options.epsilon_cutoff, "Draw from those at least this likely");
    option("--eta-cutoff", options.eta_cutoff, "The same, less strict where many are likely");
    app.add_flag("--renormalize-logits", options.renormalize_logits,
                 "Probabilities add up to 1 after the processors")
        ->group(group);
    app.add_option("--suppress-tokens", options.suppress_tokens, "Ids that are never chosen")
        ->delimiter(',')
        ->type_name("ID,...")
        ->group(group);
    app.add_option("--begin-suppress-tokens", options.begin_suppress_tokens,
                   "Ids that do not begin an answer")
        ->delimiter(',')
        ->type_name("ID,...")
        ->group(group);
    option("--seed", options.seed, "The same seed draws the same answer");
    app.add_option("--stop", options.stop, "The answer ends before this text (repeatable)")
        ->group(group)
        ->expected(1);
    app.get_option("--stop")->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
    app.add_flag("--ignore-eos", options.ignore_eos, "Go on past the end token")->group(group);
}

GenerateOptions GenerationFlags::resolved(bool reference) const {
    if (greedy && options.do_sample)
        throw UsageError("--greedy and --do-sample exclude each other");
    GenerateOptions o = options;
    o.max_new_tokens = max_new_tokens.value_or(reference ? 19 : o.max_new_tokens);
    return o;
}

void PictureFlags::declare(CLI::App& app) {
    const char* group = "Pictures";
    app.add_option("--max-num", max_num,
                   "Most tiles of a picture (default 12) or frame (1), thumbnail not counted")
        ->group(group);
    app.add_option("--min-num", options.min_num, "Fewest tiles of a picture")
        ->group(group)
        ->capture_default_str();
    app.add_flag("--no-thumbnail", no_thumbnail, "No extra tile of the whole picture")
        ->group(group);
    app.add_flag("--no-tiling", no_tiling, "One tile, the whole picture")->group(group);
    app.add_flag(
           "--pillow-12", options.pillow_12,
           "Resize as Pillow up to 12 did (13 changed the order of its passes for tall pictures)")
        ->group(group);
    app.add_flag("--exif-rotate", options.exif_rotate,
                 "Turn photos as their EXIF says (the reference does not)")
        ->group(group);
}

ImageOptions PictureFlags::resolved(int usual_max_num) const {
    ImageOptions o = options;
    o.max_num = max_num.value_or(usual_max_num);
    if (o.max_num < 1)
        throw UsageError("--max-num is out of range", "at least 1", std::to_string(o.max_num));
    if (o.min_num < 1 || o.min_num > o.max_num)
        throw UsageError("--min-num is out of range", "from 1 to --max-num",
                         std::to_string(o.min_num));
    o.thumbnail = !no_thumbnail;
    o.tiling = !no_tiling;
    return o;
}

void VideoFlags::declare(CLI::App& app) {
    const char* group = "Video";
    app.add_option("--num-segments", num_segments, "Frames to look at, evenly spread")
        ->group(group)
        ->capture_default_str();
    app.add_option("--bound", bound, "Only this part of a clip, in seconds")
        ->type_name("START,END")
        ->group(group);
}

VideoOptions VideoFlags::resolved(const PictureFlags& picture) const {
    VideoOptions o;
    o.image = picture.resolved(o.image.max_num);
    if (num_segments < 1)
        throw UsageError("--num-segments is out of range", "at least 1",
                         std::to_string(num_segments));
    o.num_segments = num_segments;
    if (bound.empty()) return o;
    double start = 0, end = 0;
    const char* const last = bound.data() + bound.size();
    const auto first = std::from_chars(bound.data(), last, start);
    const char* const comma = std::find(first.ptr, last, ',');
    const auto second = std::from_chars(std::min(comma + 1, last), last, end);
    if (first.ec != std::errc() || first.ptr != comma || second.ec != std::errc() ||
        second.ptr != last || !std::isfinite(start) || !std::isfinite(end))
        throw UsageError("--bound is no span of time", "START,END in seconds", bound);
    o.bound = {start, end};
    return o;
}

CLI::Option* repeatable(CLI::Option* option) {
    return option->expected(1)->allow_extra_args(false)->multi_option_policy(
        CLI::MultiOptionPolicy::TakeAll);
}

void declare_files(CLI::App& app, const char* name, std::vector<std::string>& files,
                   const char* text) {
    repeatable(app.add_option(name, files, text)->type_name("FILE"));
}

void MediaFlags::declare(CLI::App& app) {
    declare_files(app, "-i,--image", images, "A picture (repeatable)");
    declare_files(app, "-v,--video", videos, "A video (repeatable)");
    picture.declare(app);
    app.add_option("--total-max-num", total_max_num,
                   "Most tiles of all pictures together, thumbnails included")
        ->group("Pictures")
        ->check(CLI::Range(1, 1 << 20));
    video.declare(app);
}

static void refuse_network(const std::vector<std::string>& files) {
    for (const std::string& file : files)
        if (file.find("://") != file.npos)
            throw UsageError("media from the network are not in this version", "a file", file);
}

std::vector<Media> MediaFlags::open() const {
    refuse_network(images);
    refuse_network(videos);
    const VideoOptions clip = video.resolved(picture);
    std::vector<Media> media;
    for (Photo& photo : Photo::open_all(
             images, std::vector<ImageOptions>(images.size(), picture.resolved()), total_max_num))
        media.emplace_back(std::move(photo));
    for (const std::string& file : videos) media.emplace_back(Video::open(file, clip));
    return media;
}

void CompatFlag::declare(CLI::App& app, const char* fallback) {
    compat = fallback;
    app.add_option("--compat", compat,
                   "reference: exactly as the original Python code, conveniences off");
}

bool CompatFlag::reference() const {
    if (!compat.empty() && compat != "reference" && compat != "none")
        throw UsageError("unknown --compat", "reference or none", compat);
    return compat == "reference";
}

std::string read_input(const std::string& file) {
    if (file != "-") return read_file(file);
    return {std::istreambuf_iterator<char>(std::cin), {}};
}

void print_line(const std::string& text) {
    if (std::fwrite(text.data(), 1, text.size(), stdout) != text.size() ||
        std::fputc('\n', stdout) == EOF || std::fflush(stdout) != 0)
        throw BrokenPipe();
}

std::string path_beside(const std::string& file, const std::string& name) {
    return (std::filesystem::path(file).parent_path() / name).string();
}

std::function<void(int, int)> tile_progress(bool quiet) {
    if (quiet || !isatty(STDERR_FILENO)) return {};
    return [](int done, int tiles) {
        if (done < tiles)
            fmt::print(stderr, "\rlooking: tile {} of {} ", done + 1, tiles);
        else
            fmt::print(stderr, "\r\033[K");
        std::fflush(stderr);
    };
}

// A signal handler can reach nothing but globals.
static volatile std::sig_atomic_t interrupt_seen = 0;
static Model* model_to_stop = nullptr;

static void on_interrupt(int) {
    if (interrupt_seen > 1) std::_Exit(130);  // asked three times: leave at once
    interrupt_seen = interrupt_seen + 1;
    if (model_to_stop) model_to_stop->cancel();
}

void stop_on_interrupt(Model* model) {
    model_to_stop = model;
    std::signal(SIGINT, on_interrupt);
}

bool interrupted() {
    return interrupt_seen != 0;
}

void clear_interrupt() {
    interrupt_seen = 0;
}

}  // namespace internvl::cli
