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
    {
        .architecture = "Qwen3ForCausalLM",
        .embedding = "embed_tokens.weight",
        .final_norm = "norm.weight",
        .attention_norm = "layers.{}.input_layernorm.weight",
        .mlp_norm = "layers.{}.post_attention_layernorm.weight",
        .qkv = {"layers.{}.self_attn.q_proj.weight", "layers.{}.self_attn.k_proj.weight",
                "layers.{}.self_attn.v_proj.weight"},
        .q_norm = "layers.{}.self_attn.q_norm.weight",
        .k_norm = "layers.{}.self_attn.k_norm.weight",
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

// What stands before the names of each part.
struct Prefixes {
    std::string vision, projector, body, head;
};

static const Prefixes& prefixes(const ModelConfig& c) {
    static const Prefixes table[] = {
        {"vision_model.", "mlp1.", "language_model.model.", "language_model."},
        {"vision_tower.", "multi_modal_projector.", "language_model.model.", "language_model."},
        {"model.vision_tower.", "model.multi_modal_projector.", "model.language_model.", ""},
    };
    return table[size_t(c.layout)];
}

// How the tower's tensors are called: a row for the released folders, one for the converted ones.
struct VisionFamily {
    std::string class_row, positions, patch;
    std::string layer;
    std::string attention_norm, mlp_norm;
    std::vector<std::string> qkv;
    std::string q_norm, k_norm, out, up, down, attention_scale, mlp_scale;
    std::string projector_norm, projector_in, projector_out;
};

static const VisionFamily& vision_family(const ModelConfig& c) {
    static const VisionFamily original{
        .class_row = "embeddings.class_embedding",
        .positions = "embeddings.position_embedding",
        .patch = "embeddings.patch_embedding.weight",
        .layer = "encoder.layers.{}.",
        .attention_norm = "norm1",
        .mlp_norm = "norm2",
        .qkv = {"attn.qkv.weight"},
        .q_norm = "attn.q_norm.weight",
        .k_norm = "attn.k_norm.weight",
        .out = "attn.proj.weight",
        .up = "mlp.fc1.weight",
        .down = "mlp.fc2.weight",
        .attention_scale = "ls1",
        .mlp_scale = "ls2",
        .projector_norm = "0",
        .projector_in = "1.weight",
        .projector_out = "3.weight",
    };
    static const VisionFamily converted{
        .class_row = "embeddings.cls_token",
        .positions = "embeddings.position_embeddings",
        .patch = "embeddings.patch_embeddings.projection.weight",
        .layer = "encoder.layer.{}.",
        .attention_norm = "layernorm_before",
        .mlp_norm = "layernorm_after",
        .qkv = {"attention.q_proj.weight", "attention.k_proj.weight", "attention.v_proj.weight"},
        .q_norm = "attention.q_norm.weight",
        .k_norm = "attention.k_norm.weight",
        .out = "attention.projection_layer.weight",
        .up = "mlp.fc1.weight",
        .down = "mlp.fc2.weight",
        .attention_scale = "lambda_1",
        .mlp_scale = "lambda_2",
        .projector_norm = "layer_norm",
        .projector_in = "linear_1.weight",
        .projector_out = "linear_2.weight",
    };
    return c.layout == Layout::original ? original : converted;
}

VisionNames vision_names(const ModelConfig& c) {
    const VisionFamily& f = vision_family(c);
    const Prefixes& p = prefixes(c);
    return {p.vision + f.class_row,
            p.vision + f.positions,
            linear_names(p.vision, {f.patch}, 0, true),
            norm_names(p.projector + f.projector_norm, true),
            linear_names(p.projector, {f.projector_in}, 0, true),
            linear_names(p.projector, {f.projector_out}, 0, true)};
}

VisionLayerNames vision_layer_names(const ModelConfig& c, int64_t layer) {
    const VisionFamily& f = vision_family(c);
    const std::string at = prefixes(c).vision + layer_name(f.layer, layer);
    const bool centred = !c.vision.rms_norm;
    return {.attention_norm = norm_names(at + f.attention_norm, centred),
            .mlp_norm = norm_names(at + f.mlp_norm, centred),
            .q_norm = c.vision.qk_norm ? at + f.q_norm : "",
            .k_norm = c.vision.qk_norm ? at + f.k_norm : "",
            .qkv = linear_names(at, f.qkv, layer, c.vision.qkv_bias),
            .out = linear_names(at, {f.out}, layer, true),
            .up = linear_names(at, {f.up}, layer, true),
            .down = linear_names(at, {f.down}, layer, true),
            .attention_scale = at + f.attention_scale,
            .mlp_scale = at + f.mlp_scale};
}

DecoderNames decoder_names(const ModelConfig& c) {
    const Family& f = find_family(c.text);
    const Prefixes& p = prefixes(c);
    return {p.body + f.embedding, p.head + f.head, {p.body + f.final_norm, ""}};
}

DecoderLayerNames decoder_layer_names(const ModelConfig& c, int64_t layer) {
    const Family& f = find_family(c.text);
    const std::string& body = prefixes(c).body;
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
