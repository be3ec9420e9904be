#include "model/families.h"

#include <fmt/format.h>

#include "base/error.h"

namespace internvl {

static const Family families[] = {
    {
        .architecture = "Qwen2ForCausalLM",
        .embedding = "embed_tokens.weight",
        .final_norm = "norm.weight",
        .attention_norm = "layers.{}.input_layernorm.weight",
        .mlp_norm = "layers.{}.post_attention_layernorm.weight",
        .qkv = {"layers.{}.self_attn.q_proj.weight", "layers.{}.self_attn.k_proj.weight",
                "layers.{}.self_attn.v_proj.weight"},
        .out = "layers.{}.self_attn.o_proj.weight",
        .gate_up = {"layers.{}.mlp.gate_proj.weight", "layers.{}.mlp.up_proj.weight"},
        .down = "layers.{}.mlp.down_proj.weight",
        .head = "lm_head.weight",
        .qkv_bias = true,
        .scales_rope = false,
    },
    {
        .architecture = "InternLM2ForCausalLM",
        .embedding = "tok_embeddings.weight",
        .final_norm = "norm.weight",
        .attention_norm = "layers.{}.attention_norm.weight",
        .mlp_norm = "layers.{}.ffn_norm.weight",
        .qkv = {"layers.{}.attention.wqkv.weight"},
        .out = "layers.{}.attention.wo.weight",
        .gate_up = {"layers.{}.feed_forward.w1.weight", "layers.{}.feed_forward.w3.weight"},
        .down = "layers.{}.feed_forward.w2.weight",
        .head = "output.weight",
        .qkv_interleaved = true,
    },
    {
        .architecture = "Phi3ForCausalLM",
        .embedding = "embed_tokens.weight",
        .final_norm = "norm.weight",
        .attention_norm = "layers.{}.input_layernorm.weight",
        .mlp_norm = "layers.{}.post_attention_layernorm.weight",
        .qkv = {"layers.{}.self_attn.qkv_proj.weight"},
        .out = "layers.{}.self_attn.o_proj.weight",
        .gate_up = {"layers.{}.mlp.gate_up_proj.weight"},
        .down = "layers.{}.mlp.down_proj.weight",
        .head = "lm_head.weight",
    },
    {
        .architecture = "LlamaForCausalLM",
        .embedding = "embed_tokens.weight",
        .final_norm = "norm.weight",
        .attention_norm = "layers.{}.input_layernorm.weight",
        .mlp_norm = "layers.{}.post_attention_layernorm.weight",
        .qkv = {"layers.{}.self_attn.q_proj.weight", "layers.{}.self_attn.k_proj.weight",
                "layers.{}.self_attn.v_proj.weight"},
        .out = "layers.{}.self_attn.o_proj.weight",
        .gate_up = {"layers.{}.mlp.gate_proj.weight", "layers.{}.mlp.up_proj.weight"},
        .down = "layers.{}.mlp.down_proj.weight",
        .head = "lm_head.weight",
    },
};

const Family& find_family(const TextConfig& config) {
    std::string known;
    for (const Family& family : families) {
        if (family.architecture == config.architecture) return family;
        known += (known.empty() ? "" : ", ") + family.architecture;
    }
    throw Error("the language model's class is not supported", known, config.architecture,
                "config.json, architectures of the language model");
}

static std::string layer_name(const std::string& pattern, int64_t layer) {
    return fmt::format(fmt::runtime(pattern), layer);
}

// One product with the biases beside its weights, or without.
static LinearNames linear_names(const std::string& prefix, const std::vector<std::string>& patterns,
                                int64_t layer, bool bias) {
    LinearNames names;
    for (const std::string& pattern : patterns) {
        const std::string weight = prefix + layer_name(pattern, layer);
        names.weights.push_back(weight);
        names.biases.push_back(bias ? weight.substr(0, weight.rfind('.')) + ".bias" : "");
    }
    return names;
}

static NormNames norm_names(const std::string& name, bool bias) {
    return {name + ".weight", bias ? name + ".bias" : ""};
}

VisionNames vision_names(const ModelConfig&) {
    const std::string root = "vision_model.embeddings.";
    return {root + "class_embedding",
            root + "position_embedding",
            linear_names(root, {"patch_embedding.weight"}, 0, true),
            norm_names("mlp1.0", true),
            linear_names("mlp1.", {"1.weight"}, 0, true),
            linear_names("mlp1.", {"3.weight"}, 0, true)};
}

VisionLayerNames vision_layer_names(const ModelConfig& c, int64_t layer) {
    const std::string at = fmt::format("vision_model.encoder.layers.{}.", layer);
    const bool centred = !c.vision.rms_norm;
    VisionLayerNames names{.attention_norm = norm_names(at + "norm1", centred),
                           .mlp_norm = norm_names(at + "norm2", centred),
                           .q_norm = "",
                           .k_norm = "",
                           .qkv = linear_names(at, {"attn.qkv.weight"}, layer, c.vision.qkv_bias),
                           .out = linear_names(at, {"attn.proj.weight"}, layer, true),
                           .up = linear_names(at, {"mlp.fc1.weight"}, layer, true),
                           .down = linear_names(at, {"mlp.fc2.weight"}, layer, true),
                           .attention_scale = at + "ls1",
                           .mlp_scale = at + "ls2"};
    if (c.vision.qk_norm) {
        names.q_norm = at + "attn.q_norm.weight";
        names.k_norm = at + "attn.k_norm.weight";
    }
    return names;
}

DecoderNames decoder_names(const ModelConfig& c) {
    const Family& f = find_family(c.text);
    const std::string root = "language_model.", body = root + "model.";
    return {body + f.embedding, root + f.head, {body + f.final_norm, ""}};
}

DecoderLayerNames decoder_layer_names(const ModelConfig& c, int64_t layer) {
    const Family& f = find_family(c.text);
    const std::string body = "language_model.model.";
    const auto name = [&](const std::string& pattern) {
        return pattern.empty() ? "" : body + layer_name(pattern, layer);
    };
    return {.attention_norm = {name(f.attention_norm), ""},
            .mlp_norm = {name(f.mlp_norm), ""},
            .q_norm = name(f.q_norm),
            .k_norm = name(f.k_norm),
            .qkv = linear_names(body, f.qkv, layer, f.qkv_bias),
            .out = linear_names(body, {f.out}, layer, false),
            .gate_up = linear_names(body, f.gate_up, layer, false),
            .down = linear_names(body, {f.down}, layer, false)};
}

}  // namespace internvl
