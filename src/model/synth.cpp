#include "model/synth.h"

#include <fmt/format.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <vector>

#include "base/cpu.h"
#include "base/error.h"
#include "base/json.h"
#include "base/parallel.h"
#include "io/safetensors.h"
#include "model/tensors.h"

namespace internvl {

using Json = nlohmann::ordered_json;

namespace {

// A member of the family as its released folder describes it.
struct Member {
    const char* name;
    Json config;
    int base_tokens;                         // before the image tokens
    std::vector<std::string> base_specials;  // the last of the base tokens
};

Json vision_300m() {
    return {{"architectures", {"InternVisionModel"}},
            {"model_type", "intern_vit_6b"},
            {"hidden_size", 1024},
            {"num_hidden_layers", 24},
            {"num_attention_heads", 16},
            {"intermediate_size", 4096},
            {"image_size", 448},
            {"patch_size", 14},
            {"num_channels", 3},
            {"qkv_bias", true},
            {"qk_normalization", false},
            {"norm_type", "layer_norm"},
            {"layer_norm_eps", 1e-6},
            {"hidden_act", "gelu"},
            {"torch_dtype", "bfloat16"}};
}

Json wrap(const char* chat_template, Json vision, Json language) {
    return {{"architectures", {"InternVLChatModel"}},
            {"model_type", "internvl_chat"},
            {"template", chat_template},
            {"downsample_ratio", 0.5},
            {"dynamic_image_size", true},
            {"force_image_size", 448},
            {"min_dynamic_patch", 1},
            {"max_dynamic_patch", 12},
            {"ps_version", "v2"},
            {"select_layer", -1},
            {"use_thumbnail", true},
            {"use_backbone_lora", 0},
            {"use_llm_lora", 0},
            {"torch_dtype", "bfloat16"},
            {"vision_config", std::move(vision)},
            {"llm_config", std::move(language)}};
}

std::vector<Member> members() {
    return {{"internvl2-1b",
             wrap("Hermes-2", vision_300m(),
                  {{"architectures", {"Qwen2ForCausalLM"}},
                   {"model_type", "qwen2"},
                   {"hidden_size", 896},
                   {"num_hidden_layers", 24},
                   {"num_attention_heads", 14},
                   {"num_key_value_heads", 2},
                   {"intermediate_size", 4864},
                   {"vocab_size", 151655},
                   {"max_position_embeddings", 32768},
                   {"rms_norm_eps", 1e-6},
                   {"rope_theta", 1e6},
                   {"hidden_act", "silu"},
                   {"bos_token_id", 151643},
                   {"eos_token_id", 151645},
                   {"use_sliding_window", false},
                   {"torch_dtype", "bfloat16"}}),
             151646,
             {"<|endoftext|>", "<|im_start|>", "<|im_end|>"}}};
}

const std::vector<std::string> image_tokens = {
    "<img>", "</img>", "<IMG_CONTEXT>", "<quad>", "</quad>", "<ref>", "</ref>", "<box>", "</box>"};

void write_text(const std::string& path, const std::string& text) {
    std::ofstream out(path, std::ios::binary);
    out << text;
    out.close();
    if (!out) throw Error("cannot write file", "", "", path);
}

// Byte b in GPT-2's alphabet, as JSON text.
std::string byte_piece(int b) {
    static const std::vector<int> alphabet = [] {
        std::vector<int> of(256);
        int next = 256;
        for (int i = 0; i < 256; ++i) {
            const bool itself = (i >= 33 && i <= 126) || (i >= 161 && i <= 172) || i >= 174;
            of[size_t(i)] = itself ? i : next++;
        }
        return of;
    }();
    const int c = alphabet[size_t(b)];
    if (c < 128) return std::string(1, char(c));
    return {char(0xc0 | c >> 6), char(0x80 | (c & 0x3f))};
}

// 256 bytes, pieces that no merge makes, then the tokens that count.
void write_tokenizer(const std::string& folder, const Member& m) {
    const int pieces = m.base_tokens - int(m.base_specials.size());
    Json vocab = Json::object(), added = Json::object(), decoder = Json::object();
    for (int id = 0; id < pieces; ++id)
        vocab[id < 256 ? byte_piece(id) : fmt::format("unused_{}", id)] = id;
    std::vector<std::string> names = m.base_specials;
    names.insert(names.end(), image_tokens.begin(), image_tokens.end());
    for (size_t i = 0; i < names.size(); ++i) {
        const int id = pieces + int(i);
        added[names[i]] = id;
        decoder[std::to_string(id)] = {
            {"content", names[i]}, {"special", true}, {"lstrip", false}, {"rstrip", false}};
    }
    write_text(folder + "/vocab.json", vocab.dump());
    write_text(folder + "/merges.txt", "#version: 0.2\n");
    write_text(folder + "/added_tokens.json", added.dump(2));
    write_text(
        folder + "/tokenizer_config.json",
        Json{{"tokenizer_class", "Qwen2Tokenizer"}, {"added_tokens_decoder", decoder}}.dump(2));
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
    if (ends("embed_tokens.weight")) return {0.0f, 0.5f};
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

void write_weights(const std::string& folder, const ModelConfig& config, uint64_t seed) {
    const std::vector<TensorSpec> specs = expected_tensors(config);
    std::vector<TensorPlan> plan;
    for (const TensorSpec& s : specs) plan.push_back({s.name, DType::bf16, s.shape});
    SafetensorsWriter writer(folder + "/model.safetensors", plan, {{"format", "pt"}});
    ThreadPool pool(usable_cores());
    std::vector<bf16_t> buffer(size_t(8) << 20);
    for (size_t n = 0; n < specs.size(); ++n) {
        int64_t count = 1;
        for (const int64_t d : specs[n].shape) count *= d;
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

}  // namespace

int64_t synthesise(const SynthOptions& options) {
    std::string known;
    for (Member& m : members()) {
        known += (known.empty() ? "" : ", ") + std::string(m.name);
        if (options.like != m.name) continue;
        if (options.layers) m.config["llm_config"]["num_hidden_layers"] = *options.layers;
        const ModelConfig config = parse_config(m.config.dump(), options.like);
        std::error_code error;
        std::filesystem::create_directories(options.out, error);
        if (error) throw Error("cannot make folder", "", error.message(), options.out);
        write_text(options.out + "/config.json", m.config.dump(2) + "\n");
        write_tokenizer(options.out, m);
        write_weights(options.out, config, options.seed);
        return count_parameters(config).total;
    }
    throw Error("no member of the family of this name", known, options.like, "--like");
}

}  // namespace internvl
