#include "model/synth.h"

#include <fmt/format.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <vector>

#include "base/cpu.h"
#include "base/error.h"
#include "base/parallel.h"
#include "io/safetensors.h"
#include "model/members.h"
#include "model/synth_tokenizer.h"
#include "model/tensors.h"

namespace internvl {

using Json = nlohmann::ordered_json;

namespace {

void write_text(const std::string& path, const std::string& text) {
    std::ofstream out(path, std::ios::binary);
    out << text;
    out.close();
    if (!out) throw Error("cannot write file", "", "", path);
}

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

// The tensors of one file of weights.
struct Shard {
    std::vector<size_t> tensors;  // places in the list of all
    int64_t bytes = 0;
};

int64_t bytes_of(const TensorSpec& spec) {
    int64_t n = size_of(DType::bf16);
    for (const int64_t d : spec.shape) n *= d;
    return n;
}

// In order, each file as full as `most` bytes allow: how the released folders were saved.
std::vector<Shard> cut_shards(const std::vector<TensorSpec>& specs, int64_t most) {
    std::vector<Shard> shards(1);
    for (size_t i = 0; i < specs.size(); ++i) {
        const int64_t bytes = bytes_of(specs[i]);
        if (shards.back().bytes + bytes > most && shards.back().bytes > 0) shards.emplace_back();
        shards.back().tensors.push_back(i);
        shards.back().bytes += bytes;
    }
    return shards;
}

void write_shard(const std::string& path, const std::vector<TensorSpec>& specs, const Shard& shard,
                 uint64_t seed, ThreadPool& pool, std::vector<bf16_t>& buffer) {
    std::vector<TensorPlan> plan;
    for (const size_t n : shard.tensors)
        plan.push_back({specs[n].name, DType::bf16, specs[n].shape});
    SafetensorsWriter writer(path, plan, {{"format", "pt"}});
    for (const size_t n : shard.tensors) {
        const int64_t count = bytes_of(specs[n]) / size_of(DType::bf16);
        const uint64_t key = (seed * 1000003 + n) * 0xd1342543de82ef95u;
        const Spread spread = spread_of(specs[n]);
        for (int64_t first = 0; first < count; first += int64_t(buffer.size())) {
            const int64_t part = std::min(count - first, int64_t(buffer.size()));
            pool.parallel_for(part, 1 << 16, [&](int64_t begin, int64_t end, int) {
                fill_random(buffer.data() + begin, first + begin, end - begin, key, spread);
            });
            writer.write(buffer.data(), size_t(part) * sizeof(bf16_t));
        }
    }
    writer.finish();
}

void write_weights(const SynthOptions& options, const std::vector<TensorSpec>& specs) {
    const std::string& folder = options.out;
    const std::vector<Shard> shards = cut_shards(specs, options.shard_bytes);
    ThreadPool pool(usable_cores());
    std::vector<bf16_t> buffer(size_t(8) << 20);
    Json places = Json::object();
    int64_t total = 0;
    for (size_t i = 0; i < shards.size(); ++i) {
        const std::string name =
            shards.size() == 1
                ? "model.safetensors"
                : fmt::format("model-{:05}-of-{:05}.safetensors", i + 1, shards.size());
        write_shard(folder + "/" + name, specs, shards[i], options.seed, pool, buffer);
        for (const size_t n : shards[i].tensors) places[specs[n].name] = name;
        total += shards[i].bytes;
    }
    if (shards.size() > 1)
        write_text(
            folder + "/model.safetensors.index.json",
            Json{{"metadata", {{"total_size", total}}}, {"weight_map", places}}.dump(2) + "\n");
}

// Before hours are spent on filling the disk.
void check_room(const std::string& folder, const std::vector<TensorSpec>& specs) {
    int64_t needed = 64 << 20;  // headers, tokenizer
    for (const TensorSpec& spec : specs) needed += bytes_of(spec);
    std::error_code error;
    const std::filesystem::space_info room = std::filesystem::space(folder, error);
    if (!error && room.available < uintmax_t(needed))
        throw Error("the disk has no room for the weights",
                    fmt::format("{:.2f} GB free", double(needed) / 1e9),
                    fmt::format("{:.2f} GB", double(room.available) / 1e9), folder);
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
    if (options.weights) check_room(options.out, specs);
    write_text(options.out + "/config.json", json.dump(2) + "\n");
    for (const auto& [name, text] : tokenizer_files(member->tokenizer))
        write_text(options.out + "/" + name, text);
    write_companions(options.out, *member);
    if (options.weights) write_weights(options, specs);
    return count_parameters(config).total;
}

}  // namespace internvl
