#include "model/synth.h"

#include <fmt/format.h>

#include <cmath>
#include <filesystem>
#include <vector>

#include "base/cpu.h"
#include "base/error.h"
#include "base/parallel.h"
#include "io/write_checkpoint.h"
#include "model/members.h"
#include "model/synth_tokenizer.h"
#include "model/tensors.h"

namespace internvl {

using Json = nlohmann::ordered_json;

namespace {

// How a tensor's values are spread: rows of products so that their sums stay near 1, norms near 1,
// biases small.
struct Spread {
    float mean, deviation;
};

Spread spread_of(const TensorSpec& spec) {
    const auto ends = [&](const char* text) { return spec.name.ends_with(text); };
    if (ends(".ls1") || ends(".ls2")) return {0.1f, 0.02f};
    if (spec.shape.size() == 1 && ends("weight")) return {1.0f, 0.02f};
    if (spec.shape.size() == 1) return {0.0f, 0.02f};
    if (ends("embedding")) return {0.0f, 0.02f};
    if (ends("embed_tokens.weight") || ends("tok_embeddings.weight")) return {0.0f, 0.5f};
    int64_t in = 1;
    for (size_t d = 1; d < spec.shape.size(); ++d) in *= spec.shape[d];
    return {0.0f, 1.0f / std::sqrt(float(in))};
}

// Values that depend on (seed, tensor, place) alone: the same folder whatever the number of
// threads. The sum of four uniform bytes is near enough to a normal distribution.
void fill_random(bf16_t* out, int64_t first, int64_t count, uint64_t key, Spread spread) {
    constexpr float centre = 2 * 255.0f, deviation = 147.8f;  // of the sum of four bytes
    for (int64_t i = 0; i < count; ++i) {
        uint64_t x = key + uint64_t(first + i) * 0x9e3779b97f4a7c15u;
        x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
        x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
        const uint32_t sum = uint32_t(x >> 56 & 255) + uint32_t(x >> 48 & 255) +
                             uint32_t(x >> 40 & 255) + uint32_t(x >> 32 & 255);
        out[i] = to_bf16(spread.mean + (float(sum) - centre) / deviation * spread.deviation);
    }
}

// As released: bf16 throughout.
std::vector<std::vector<TensorPlan>> plan_of(const std::vector<TensorSpec>& specs) {
    std::vector<std::vector<TensorPlan>> plan;
    for (const TensorSpec& spec : specs) plan.push_back({{spec.name, DType::bf16, spec.shape}});
    return plan;
}

void write_weights(const SynthOptions& options, const std::vector<TensorSpec>& specs) {
    ThreadPool pool(usable_cores());
    std::vector<bf16_t> buffer(size_t(8) << 20);
    const auto plan = plan_of(specs);
    write_checkpoint(options.out, plan, options.shard_bytes, [&](size_t n, SafetensorsWriter& to) {
        const int64_t count = bytes_of(plan[n][0]) / size_of(DType::bf16);
        const uint64_t key = (options.seed * 1000003 + n) * 0xd1342543de82ef95u;
        const Spread spread = spread_of(specs[n]);
        for (int64_t first = 0; first < count; first += int64_t(buffer.size())) {
            const int64_t part = std::min(count - first, int64_t(buffer.size()));
            pool.parallel_for(part, 1 << 16, [&](int64_t begin, int64_t end, int) {
                fill_random(buffer.data() + begin, first + begin, end - begin, key, spread);
            });
            to.write(buffer.data(), size_t(part) * sizeof(bf16_t));
        }
    });
}

int64_t needed_bytes(const std::vector<TensorSpec>& specs) {
    int64_t needed = 64 << 20;  // headers, tokenizer
    for (const auto& group : plan_of(specs)) needed += bytes_of(group[0]);
    return needed;
}

// The files beside configuration, tokenizer and weights; nothing here reads them (spec 0.2).
void write_companions(const std::string& folder, const Member& member) {
    Json generation = {{"_from_model_config", true}, {"transformers_version", "4.37.2"}};
    if (member.config["llm_config"]["model_type"] == "internlm2")
        generation["eos_token_id"] = {92542, 92543};
    write_text(folder + "/generation_config.json", generation.dump(2) + "\n");
    const Json preprocessor = {{"crop_size", 448},
                               {"do_center_crop", true},
                               {"do_normalize", true},
                               {"do_resize", true},
                               {"feature_extractor_type", "CLIPFeatureExtractor"},
                               {"image_mean", {0.485, 0.456, 0.406}},
                               {"image_std", {0.229, 0.224, 0.225}},
                               {"resample", 3},
                               {"size", 448}};
    write_text(folder + "/preprocessor_config.json", preprocessor.dump(2) + "\n");
}

}  // namespace

int64_t synthesise(const SynthOptions& options) {
    const Member* member = find_member(options.like);
    if (!member)
        throw Error("no member of the family of this name", member_names(), options.like, "--like");
    Json json = member->config;
    if (options.layers) json["llm_config"]["num_hidden_layers"] = *options.layers;
    if (options.vision_layers) json["vision_config"]["num_hidden_layers"] = *options.vision_layers;
    const ModelConfig config = parse_config(json.dump(), options.like);
    std::error_code error;
    std::filesystem::create_directories(options.out, error);
    if (error) throw Error("cannot make folder", "", error.message(), options.out);
    const std::vector<TensorSpec> specs = expected_tensors(config);
    if (options.weights) check_room(options.out, needed_bytes(specs));
    write_text(options.out + "/config.json", json.dump(2) + "\n");
    for (const auto& [name, text] : tokenizer_files(member->tokenizer))
        write_text(options.out + "/" + name, text);
    write_companions(options.out, *member);
    if (options.weights) write_weights(options, specs);
    return count_parameters(config).total;
}

}  // namespace internvl
