#include <memory>

#include "base/error.h"
#include "base/json.h"
#include "cli/common.h"
#include "engine/prompt.h"
#include "io/hub.h"
#include "model/lora.h"
#include "model/memory.h"
#include "model/tensors.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace internvl::cli {

namespace {

using Json = nlohmann::ordered_json;

constexpr int64_t usual_context = 8192;  // what the family was trained for (spec 5.0)

// What was found, and what was wrong: each check adds its line instead of ending the report.
struct Report {
    Json json = {{"family", nullptr},
                 {"layout", nullptr},
                 {"parameters", nullptr},
                 {"dtype", nullptr},
                 {"quantisation", nullptr},
                 {"template", nullptr},
                 {"special_ids", Json::object()},
                 {"context", nullptr},
                 {"rope_scaling", nullptr},
                 {"adapters", 0},
                 {"memory", Json::object()},
                 {"files", Json::object()},
                 {"problems", Json::array()}};

    template <class F>
    void part(F f) {
        try {
            f();
        } catch (const Error& e) {
            json["problems"].push_back(e.what());
        }
    }
};

const char* config_dtype(DType dtype) {
    return dtype == DType::bf16 ? "bf16" : dtype == DType::f16 ? "fp16" : "fp32";
}

// Bytes of weights, of keys and values, and of a picture of most tiles, by type (cache and work as
// this engine keeps them).
Json memory_needs(const ModelConfig& c, int64_t parameters) {
    const int64_t context = std::min(usual_context, c.text.max_positions);
    const int64_t tiles = c.max_tiles + int64_t(c.use_thumbnail && c.max_tiles > 1);
    const int64_t tokens = tiles * tokens_per_tile;
    Json per_token, conversation, cache, work;
    for (const char* type : {"bf16", "fp16", "fp32"}) {
        const DType activations = choose_types(type, c.dtype, true).activations;
        const int64_t bytes = cache_bytes(c.text, activations);
        per_token[type] = bytes;
        conversation[type] = context * bytes;
        cache[type] = tokens * bytes;
        work[type] = activation_bytes(c, activations, tokens, tiles);
    }
    const auto quantised = [&](Quant quant) {
        return weight_bytes(c, {DType::bf16, DType::bf16, QuantPolicy(quant).over(c.quant.parts)});
    };
    Json weights;
    for (const char* type : {"bf16", "fp16", "fp32"}) {
        ComputeTypes types = choose_types(type, c.dtype, true);
        types.quant = c.quant.parts;
        weights[type] = c.quant.method != FiledQuant::Method::none ? weight_bytes(c, types)
                        : type == std::string("fp32")              ? 4 * parameters
                                                                   : 2 * parameters;
    }
    for (const Quant quant : {Quant::int8, Quant::int4})
        weights[quant_name(quant)] = quantised(quant);
    return {{"weights", weights},
            {"kv_per_token", per_token},
            {fmt::format("kv_{}_tokens", context), conversation},
            {fmt::format("kv_picture_{}_tokens", tokens), cache},
            {fmt::format("work_picture_{}_tiles", tiles), work}};
}

Json rope_scaling(const RopeScaling& rope) {
    using Kind = RopeScaling::Kind;
    if (rope.kind == Kind::dynamic_ntk) return {{"type", "dynamic"}, {"factor", rope.factor}};
    if (rope.kind == Kind::longrope)
        return {{"type", "longrope"},
                {"short_up_to", rope.original_positions},
                {"factors", rope.long_factors.size()}};
    return nullptr;
}

Json quantisation(const FiledQuant& quant) {
    if (quant.method == FiledQuant::Method::none) return nullptr;
    const bool awq = quant.method == FiledQuant::Method::awq;
    Json json = {{"method", awq ? "awq" : "internvl"}, {"parts", quant.parts.text()}};
    if (awq) json["group_size"] = quant.parts.group;
    return json;
}

void report_config(Report& report, const ModelFolder& folder, std::optional<ModelConfig>& config) {
    const auto text = folder.read("config.json");
    if (!text) throw Error("no model here", "a folder with config.json", "none", folder.where());
    config = parse_config(*text, folder.where() + "/config.json");
    report.json["family"] = config->text.architecture;
    report.json["layout"] = config->layout == Layout::original ? "released" : "converted";
    report.json["rope_scaling"] = rope_scaling(config->text.rope);
    report.json["dtype"] = config_dtype(config->dtype);
    report.json["quantisation"] = quantisation(config->quant);
    report.json["template"] = config->template_name;
    report.json["context"] = config->text.max_positions;
    const ParameterCount n = count_parameters(*config);
    report.json["parameters"] = {{"vision", n.vision},
                                 {"projector", n.projector},
                                 {"language", n.language},
                                 {"total", n.total}};
    report.json["memory"] = memory_needs(*config, n.total);
    find_template(config->template_name);
}

void report_tokenizer(Report& report, const ModelFolder& folder,
                      const std::optional<ModelConfig>& config) {
    const Tokenizer t =
        Tokenizer::load([&](const std::string& name) { return folder.read(name); }, folder.where());
    for (const AddedToken& token : t.added_tokens())
        report.json["special_ids"][token.text] = token.id;
    if (config && t.size() > config->text.vocab)
        throw Error("the tokenizer has more ids than the model has rows",
                    std::to_string(config->text.vocab), std::to_string(t.size()), folder.where());
}

void report_weights(Report& report, const ModelFolder& folder,
                    const std::optional<ModelConfig>& config) {
    const std::vector<std::string> files = folder.list();
    int64_t all_bytes = 0;
    for (const std::string& file : files) all_bytes += int64_t(folder.map(file).bytes().size());
    report.json["files"] = {{"all", files.size()}, {"all_bytes", all_bytes}};
    const bool any = std::ranges::any_of(files, [](const std::string& f) {
        return f.ends_with(".safetensors") || f.ends_with(".bin");
    });
    if (!any) return;  // a folder with configuration and tokenizer only is fine for looking at
    Checkpoint checkpoint(folder);
    unwrap_adapters(checkpoint);
    report.json["adapters"] = std::ranges::count_if(
        checkpoint.entries(),
        [](const TensorEntry& entry) { return entry.name.ends_with(".weight.lora_A"); });
    report.json["files"].update({{"weights", checkpoint.files()},
                                 {"tensors", checkpoint.entries().size()},
                                 {"bytes", checkpoint.total_bytes()},
                                 {"hole_bytes", checkpoint.hole_bytes()}});
    if (!config) return;
    ModelConfig named = *config;
    named.layout = layout_of(checkpoint, named.layout);
    check_tensors(checkpoint, named);
}

std::string size_text(int64_t bytes) {
    if (bytes >= 1 << 30) return fmt::format("{:.2f} GiB", double(bytes) / (1 << 30));
    if (bytes >= 1 << 20) return fmt::format("{:.1f} MiB", double(bytes) / (1 << 20));
    return fmt::format("{:.1f} KiB", double(bytes) / (1 << 10));
}

void print_report(const std::string& where, const Json& j) {
    const auto line = [](const char* name, const std::string& text) {
        print_line(fmt::format("{:<12}{}", name, text));
    };
    line("folder", where);
    if (j["files"].contains("all"))
        line("files", fmt::format("{}, {}", j["files"]["all"].get<int64_t>(),
                                  size_text(j["files"]["all_bytes"].get<int64_t>())));
    if (!j["family"].is_null()) {
        line("family",
             fmt::format("{}, template {}, {} layout", j["family"].get<std::string>(),
                         j["template"].get<std::string>(), j["layout"].get<std::string>()));
        const Json& p = j["parameters"];
        line("parameters",
             fmt::format("{} = vision {} + projector {} + language {}", p["total"].get<int64_t>(),
                         p["vision"].get<int64_t>(), p["projector"].get<int64_t>(),
                         p["language"].get<int64_t>()));
        line("type", j["dtype"].get<std::string>());
        if (const Json& q = j["quantisation"]; !q.is_null())
            line("quantised", fmt::format("{}: {}", q["method"].get<std::string>(),
                                          q["parts"].get<std::string>()));
        line("context", fmt::format("{} positions", j["context"].get<int64_t>()));
        if (!j["rope_scaling"].is_null()) line("rope", j["rope_scaling"].dump());
        for (const auto& [name, types] : j["memory"].items()) {
            std::string text;
            for (const auto& [type, bytes] : types.items())
                text += fmt::format("  {} {}", type, size_text(bytes.get<int64_t>()));
            line("memory", fmt::format("{:<24}{}", name, text));
        }
    }
    for (const auto& [token, id] : j["special_ids"].items())
        line("token", fmt::format("{:<18}{}", token, id.get<int>()));
    if (j["files"].contains("bytes"))
        line("weights",
             fmt::format("{} tensors in {} files, {}, {} bytes of holes",
                         j["files"]["tensors"].get<int64_t>(), j["files"]["weights"].size(),
                         size_text(j["files"]["bytes"].get<int64_t>()),
                         j["files"]["hole_bytes"].get<int64_t>()));
    if (j["adapters"] > 0)
        line("adapters", fmt::format("of {} weights, not merged", j["adapters"].get<int64_t>()));
    for (const auto& problem : j["problems"]) line("PROBLEM", problem.get<std::string>());
}

int inspect(const ModelOptions& options, bool json) {
    const ModelFolder folder = resolve_model(options.model);
    Report report;
    std::optional<ModelConfig> config;
    report.part([&] { report_config(report, folder, config); });
    report.part([&] { report_tokenizer(report, folder, config); });
    report.part([&] { report_weights(report, folder, config); });
    if (json)
        print_line(report.json.dump());
    else
        print_report(folder.where(), report.json);
    return report.json["problems"].empty() ? 0 : 1;
}

}  // namespace

Run declare_inspect(CLI::App& app) {
    auto options = std::make_shared<ModelOptions>();
    auto json = std::make_shared<bool>(false);
    options->declare(app, false);
    app.add_flag("--json", *json, "One JSON object");
    return [options, json] { return inspect(*options, *json); };
}

}  // namespace internvl::cli
