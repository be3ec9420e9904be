// What a model needs on this machine, before it is downloaded or loaded: memory, tokens, and an
// estimate of the time.
#include <filesystem>
#include <memory>

#include "base/cpu.h"
#include "base/error.h"
#include "base/json.h"
#include "cli/common.h"
#include "engine/engine.h"
#include "engine/prompt.h"
#include "io/hub.h"
#include "media/tile.h"
#include "model/cost.h"
#include "model/members.h"
#include "model/memory.h"
#include "model/tensors.h"
#include "ops/cpu/peak.h"

namespace internvl::cli {

namespace {

using Json = nlohmann::ordered_json;

// What of the machine's peaks the stages are assumed to reach (docs/performance.md has measured
// ones), and the text around pictures.
constexpr double share_of_peak = 0.78, share_of_reads = 0.85;
constexpr int64_t tokens_of_marks = 8;       // <img>, </img>, a label such as `Image-1: `
constexpr int64_t usual_answer = 1024;       // as --max-new-tokens
constexpr int64_t trained_context = 8192;    // what the family was trained for (spec 5.0)
constexpr int64_t program_bytes = 64 << 20;  // code, tokenizer, pictures

struct PlanFlags {
    ModelOptions model;
    std::vector<std::string> images;
    std::optional<int> max_num;
    std::optional<int64_t> context;
    int64_t frames = 0, users = 1, text = 64;
    int gpus = 0;
    bool no_measure = false, json = false;
};

struct Picture {
    int width = 0, height = 0;
    Grid grid;
    int64_t tiles = 1;
};

// A user's conversation: what is asked about, and how long it gets.
struct Conversation {
    std::vector<Picture> pictures;
    int64_t tiles = 0, prompt = 0, context = 0;
};

// A folder, a repository in the cache, a built-in model, or a member of the family by its name,
// for which nothing need be on the disk.
ModelConfig read_config(const std::string& model) {
    std::error_code error;
    const bool here = std::filesystem::exists(model, error) || ModelFolder::has_builtin(model);
    if (const Member* member = find_member(model); member && !here) return member->parsed();
    if (!here && !model.empty() && model.find('/') == model.npos)
        throw Error("no such model", "a folder, a repository id, demo, or one of " + member_names(),
                    model);
    const ModelFolder folder = resolve_model(model);
    const auto text = folder.read("config.json");
    if (!text) throw Error("no model here", "a folder with config.json", "none", folder.where());
    return parse_config(*text, folder.where() + "/config.json");
}

// "1920x1080"
Picture parse_size(const std::string& text) {
    constexpr ImageLimits limits;
    Picture p;
    char x = 0, rest = 0;
    const bool digits = text.find_first_not_of("0123456789x") == text.npos && text.size() < 20;
    const bool whole =
        digits && std::sscanf(text.c_str(), "%d%c%d%c", &p.width, &x, &p.height, &rest) == 3;
    if (!whole || x != 'x' || p.width < 1 || p.height < 1 || p.width > limits.max_side ||
        p.height > limits.max_side || int64_t(p.width) * p.height > limits.max_pixels)
        throw UsageError(
            "--image is not the size of a picture",
            fmt::format("WIDTHxHEIGHT such as 1920x1080, at most {} pixels", limits.max_pixels),
            text);
    return p;
}

Conversation plan_conversation(const PlanFlags& flags, const ModelConfig& c) {
    TileOptions options;
    options.min_num = int(c.min_tiles);
    options.max_num = flags.max_num.value_or(int(c.max_tiles));
    options.thumbnail = c.use_thumbnail;
    options.tiling = c.dynamic_tiles;
    Conversation talk;
    for (const std::string& size : flags.images) {
        Picture p = parse_size(size);
        p.grid = choose_grid(p.width, p.height, options);
        const int cells = p.grid.columns * p.grid.rows;
        p.tiles = cells + int(options.thumbnail && cells != 1);
        talk.tiles += p.tiles;
        talk.pictures.push_back(p);
    }
    talk.tiles += flags.frames;  // a tile each
    talk.prompt = flags.text + talk.tiles * tokens_per_tile +
                  tokens_of_marks * (int64_t(talk.pictures.size()) + flags.frames);
    const int64_t limit = c.text.max_positions;
    if (flags.context && *flags.context > limit)
        throw UsageError("--context is out of range", fmt::format("from 1 to {}", limit),
                         std::to_string(*flags.context));
    talk.context = flags.context.value_or(std::min(talk.prompt + usual_answer, limit));
    return talk;
}

Json tokens_json(const PlanFlags& flags, const ModelConfig& c, const Conversation& talk) {
    Json pictures = Json::array();
    for (const Picture& p : talk.pictures)
        pictures.push_back({{"width", p.width},
                            {"height", p.height},
                            {"grid", {p.grid.columns, p.grid.rows}},
                            {"tiles", p.tiles},
                            {"tokens", p.tiles * tokens_per_tile}});
    return {{"pictures", pictures},
            {"video", {{"frames", flags.frames}, {"tokens", flags.frames * tokens_per_tile}}},
            {"tiles", talk.tiles},
            {"text", flags.text},
            {"prompt", talk.prompt},
            {"context", talk.context},
            {"limit", c.text.max_positions}};
}

// Bytes by type; `fits` compares with what the machine has left.
Json memory_json(const PlanFlags& flags, const ModelConfig& c, const Conversation& talk,
                 int64_t available) {
    Json all = Json::object();
    const auto row = [&](const char* name, const ComputeTypes& types) {
        const int64_t weights = weight_bytes(c, types);
        const DType activations = types.activations;
        const int64_t each = talk.context * cache_bytes(c.text, activations);
        const int64_t work =
            program_bytes + activation_bytes(c, activations, talk.prompt, talk.tiles);
        const int64_t total = weights + work + flags.users * each;
        all[name] = {{"weights", weights},
                     {"cache", flags.users * each},
                     {"activations", work},
                     {"total", total},
                     {"fits", total <= available},
                     {"most_users", std::max<int64_t>(0, (available - weights - work) / each)}};
    };
    for (const char* name : {"bf16", "fp16", "fp32"}) {
        ComputeTypes types = choose_types(name, c.dtype, true);
        types.quant = c.quant.parts;
        row(name, types);
    }
    for (const Quant quant : {Quant::int8, Quant::int4})
        row(quant_name(quant), {DType::bf16, DType::bf16, QuantPolicy(quant).over(c.quant.parts)});
    return all;
}

// Seconds from the work and this machine's peaks.
Json time_json(const PlanFlags& flags, const ModelConfig& c, const Conversation& talk,
               const ComputeTypes& types, double peak_gflops, double read_gb) {
    const double compute = peak_gflops * share_of_peak, reads = read_gb * share_of_reads;
    const int64_t weights = language_bytes(c, types);
    const auto token = [&](int64_t users) {
        const double read =
            decode_gb(talk.prompt, users, weights, cache_bytes(c.text, types.cache()));
        return std::max(read / reads, double(users) * decode_gflop(c.text, talk.prompt) / compute);
    };
    const double vision = vision_gflop(c, talk.tiles).all() / compute,
                 prefill = prefill_gflop(c.text, talk.prompt).all() / compute;
    return {{"vision", vision},
            {"prefill", prefill},
            {"first_token", vision + prefill},
            {"first_token_of_last_user", double(flags.users) * (vision + prefill)},
            {"per_token", token(1)},
            {"tokens_per_s", 1 / token(1)},
            {"tokens_per_s_all_users", double(flags.users) / token(flags.users)}};
}

Json gpu_json(const PlanFlags& flags, const ModelConfig& c, const Conversation& talk) {
    Json list = Json::array();
    const int64_t cache = flags.users * talk.context * cache_bytes(c.text, DType::bf16);
    for (const GpuShare& share : split_over_gpus(c, flags.gpus))
        list.push_back({{"layers", share.layers},
                        {"parameters", share.parameters},
                        {"weights", 2 * share.parameters},
                        {"cache", cache * share.layers / c.text.layers}});
    return list;
}

Json problems_json(const ModelConfig& c, const Conversation& talk) {
    Json list = Json::array();
    if (talk.prompt >= talk.context)
        list.push_back(fmt::format("the prompt of {} tokens does not fit the context of {}",
                                   talk.prompt, talk.context));
    if (talk.context > trained_context)
        list.push_back(fmt::format("the family was trained for {} tokens", trained_context));
    if (talk.context >= c.text.max_positions)
        list.push_back(fmt::format("the model has {} positions", c.text.max_positions));
    return list;
}

Json make_plan(const PlanFlags& flags) {
    const ModelConfig c = read_config(flags.model.model);
    const Conversation talk = plan_conversation(flags, c);
    ComputeTypes types = choose_types(flags.model.load.dtype, c.dtype, cpu_kernels().native_bf16);
    types.quant = quant_policy(flags.model.load).over(c.quant.parts);
    const int64_t available = available_memory();
    Json plan = {{"model", flags.model.model},
                 {"parameters", count_parameters(c).total},
                 {"dtype", types.name()},
                 {"quant", types.quant.text()},
                 {"users", flags.users},
                 {"tokens", tokens_json(flags, c, talk)},
                 {"memory", memory_json(flags, c, talk, available)},
                 {"gflop",
                  {{"vision", vision_gflop(c, talk.tiles).all()},
                   {"tile", vision_gflop(c, 1).all()},
                   {"prefill", prefill_gflop(c.text, talk.prompt).all()},
                   {"token", decode_gflop(c.text, talk.prompt)}}},
                 {"machine", {{"available", available}}}};
    if (!flags.no_measure) {
        const int threads = flags.model.load.threads;
        ThreadPool pool(threads > 0 ? threads : usable_cores());
        const double peak = peak_gflops(types.activations, pool), read = ReadPeak(pool).gb_per_s();
        plan["machine"].update({{"threads", pool.threads()},
                                {"peak_gflops", peak},
                                {"read_gb_per_s", read},
                                {"assumed_of_peak", share_of_peak},
                                {"assumed_of_reads", share_of_reads}});
        plan["seconds"] = time_json(flags, c, talk, types, peak, read);
    }
    if (flags.gpus > 0) plan["gpus"] = gpu_json(flags, c, talk);
    plan["problems"] = problems_json(c, talk);
    return plan;
}

std::string gib(const Json& bytes) {
    return fmt::format("{:.2f} GiB", bytes.get<double>() / double(1 << 30));
}

std::string seconds_text(const Json& seconds) {
    const double s = seconds.get<double>();
    return s < 1 ? fmt::format("{:.0f} ms", 1000 * s) : fmt::format("{:.1f} s", s);
}

void line(const char* name, const std::string& text) {
    print_line(fmt::format("{:<11} {}", name, text));
}

void print_tokens(const Json& t) {
    for (const Json& p : t["pictures"])
        line("picture", fmt::format("{} x {}: grid {} x {}, {} tiles, {} tokens", p["width"].dump(),
                                    p["height"].dump(), p["grid"][0].dump(), p["grid"][1].dump(),
                                    p["tiles"].dump(), p["tokens"].dump()));
    if (t["video"]["frames"] > 0)
        line("video", fmt::format("{} frames of a tile, {} tokens", t["video"]["frames"].dump(),
                                  t["video"]["tokens"].dump()));
    line("prompt", fmt::format("{} tokens, {} of them text; context {} of {}", t["prompt"].dump(),
                               t["text"].dump(), t["context"].dump(), t["limit"].dump()));
}

void print_times(const Json& plan) {
    const Json &g = plan["gflop"], &m = plan["machine"];
    line("work", fmt::format("{:.0f} GFLOP for {} tiles, {:.0f} to prefill, {:.2f} a token",
                             g["vision"].get<double>(), plan["tokens"]["tiles"].dump(),
                             g["prefill"].get<double>(), g["token"].get<double>()));
    if (!plan.contains("seconds")) return;
    const Json& s = plan["seconds"];
    line("estimate",
         fmt::format("as {} on {} threads, at {:.0f} % of {:.0f} GFLOP/s and {:.0f} % of {:.1f} "
                     "GB/s, measured now:",
                     plan["dtype"].get<std::string>(), m["threads"].dump(), 100 * share_of_peak,
                     m["peak_gflops"].get<double>(), 100 * share_of_reads,
                     m["read_gb_per_s"].get<double>()));
    line("", fmt::format("first token after {} (vision {}, prefill {}), then {:.1f} tokens/s",
                         seconds_text(s["first_token"]), seconds_text(s["vision"]),
                         seconds_text(s["prefill"]), s["tokens_per_s"].get<double>()));
    if (plan["users"] > 1)
        line("", fmt::format("{} users at once: the last one's after {}, then {:.1f} tokens/s "
                             "together",
                             plan["users"].dump(), seconds_text(s["first_token_of_last_user"]),
                             s["tokens_per_s_all_users"].get<double>()));
}

void print_plan(const Json& plan) {
    line("model", fmt::format("{}, {} parameters", plan["model"].get<std::string>(),
                              plan["parameters"].dump()));
    print_tokens(plan["tokens"]);
    line("available", gib(plan["machine"]["available"]));
    for (const auto& [type, m] : plan["memory"].items())
        line(type.c_str(),
             fmt::format("{:>10} = weights {} + cache {} + activations {}; {}, {} users at most",
                         gib(m["total"]), gib(m["weights"]), gib(m["cache"]), gib(m["activations"]),
                         m["fits"] ? "fits" : "does NOT fit", m["most_users"].dump()));
    print_times(plan);
    if (plan.contains("gpus"))
        for (size_t i = 0; i < plan["gpus"].size(); ++i) {
            const Json& gpu = plan["gpus"][i];
            line("gpu", fmt::format("{}: {} layers, weights {}, cache {}{}", i,
                                    gpu["layers"].dump(), gib(gpu["weights"]), gib(gpu["cache"]),
                                    i == 0 ? "; and vision, embeddings, head" : ""));
        }
    for (const Json& problem : plan["problems"]) line("NOTE", problem.get<std::string>());
}

int plan(const PlanFlags& flags) {
    flags.model.check();
    const Json made = make_plan(flags);
    if (flags.json)
        print_line(made.dump());
    else
        print_plan(made);
    return 0;
}

}  // namespace

Run declare_plan(CLI::App& app) {
    auto flags = std::make_shared<PlanFlags>();
    flags->model.declare(app, true);
    app.get_option("model")->description("As for chat, or a member of the family by name: " +
                                         member_names());
    declare_files(app, "-i,--image", flags->images,
                  "Size of a picture in pixels, 1920x1080 (repeatable)");
    app.get_option("--image")->type_name("WxH");
    const auto count = [&](const char* name, auto& value, const char* text) {
        return app.add_option(name, value, text)->check(CLI::Range(1, 1 << 24))->type_name("N");
    };
    count("--video", flags->frames, "Frames of a video, a tile each");
    count("--users", flags->users, "Conversations at the same time")->capture_default_str();
    count("--text-tokens", flags->text, "Text of the prompt")->capture_default_str();
    count("--context", flags->context, "Tokens of a conversation (default: prompt + 1024)");
    app.add_option("--max-num", flags->max_num, "Most tiles of a picture, thumbnail not counted")
        ->check(CLI::Range(1, 1024));
    app.add_option("--gpus", flags->gpus, "Show the card's split of the layers over so many GPUs")
        ->check(CLI::Range(1, 1024));
    app.add_flag("--no-measure", flags->no_measure, "Do not measure the machine, estimate no time");
    app.add_flag("--json", flags->json, "One JSON object");
    return [flags] { return plan(*flags); };
}

}  // namespace internvl::cli
