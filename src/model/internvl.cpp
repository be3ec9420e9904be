#include "model/internvl.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "model/families.h"
#include "model/weights.h"

namespace internvl {

const char* ComputeTypes::name() const {
    return activations == DType::bf16 ? "bf16" : weights == DType::f16 ? "fp16" : "fp32";
}

ComputeTypes choose_types(const std::string& dtype, DType filed, bool native_bf16) {
    if (dtype == "bf16" || (dtype == "auto" && filed == DType::bf16 && native_bf16))
        return {DType::bf16, DType::bf16};
    if (dtype == "fp16") return {DType::f32, DType::f16};
    if (dtype == "fp32" || dtype == "auto") return {DType::f32, std::nullopt};
    throw UsageError("unknown dtype", "auto, bf16, fp16 or fp32", dtype);
}

Tensor InternVL::embed(Context& ctx, std::span<const int> ids, const View& picture_rows,
                       int context_token) const {
    const int64_t places = std::count(ids.begin(), ids.end(), context_token);
    const int64_t rows = picture_rows ? picture_rows.dim[0] : 0;
    // Without pictures the token is an ordinary one (the reference's text path).
    if (places != rows && rows > 0)
        throw Error("pictures and prompt do not agree",
                    fmt::format("{} <IMG_CONTEXT> tokens", rows), fmt::format("{}", places),
                    "prompt");
    for (const int id : ids)
        if (id < 0 || id >= decoder.vocab())
            throw Error("token id is out of range", fmt::format("below {}", decoder.vocab()),
                        fmt::format("{}", id), "prompt");
    Tensor x = gather_rows(ctx, decoder.embedding, ids);
    for (int64_t i = 0, next = 0; next < rows; ++i)
        if (ids[size_t(i)] == context_token)
            copy(ctx, picture_rows.slice(0, next++, 1), x.slice(0, i, 1));
    return x;
}

static Vision load_vision(const ModelConfig& c, WeightLoader& w) {
    const VisionConfig& v = c.vision;
    const std::string root = "vision_model.";
    Vision vision;
    vision.heads = v.heads;
    vision.patch = v.patch;
    vision.transposed_shuffle = c.transposed_shuffle;
    vision.patch_embedding = w.linear({root + "embeddings.patch_embedding.weight"},
                                      {root + "embeddings.patch_embedding.bias"});
    const int64_t rows = v.patches() + 1;
    vision.first_row = w.sum(root + "embeddings.class_embedding",
                             root + "embeddings.position_embedding", v.hidden);
    const Tensor positions = w.activations(root + "embeddings.position_embedding", rows, v.hidden);
    vision.positions = {positions.slice(0, 1, rows - 1), positions.owner};
    for (int64_t n = 0; n < c.vision_layers; ++n) {
        const std::string at = fmt::format("{}encoder.layers.{}.", root, n);
        VisionLayer layer;
        layer.attention_norm = w.norm(at + "norm1.weight", at + "norm1.bias", v.epsilon);
        layer.mlp_norm = w.norm(at + "norm2.weight", at + "norm2.bias", v.epsilon);
        layer.qkv = w.linear({at + "attn.qkv.weight"}, {v.qkv_bias ? at + "attn.qkv.bias" : ""});
        layer.out = w.linear({at + "attn.proj.weight"}, {at + "attn.proj.bias"});
        layer.up = w.linear({at + "mlp.fc1.weight"}, {at + "mlp.fc1.bias"});
        layer.down = w.linear({at + "mlp.fc2.weight"}, {at + "mlp.fc2.bias"});
        layer.attention_scale = w.vector(at + "ls1");
        layer.mlp_scale = w.vector(at + "ls2");
        vision.layers.push_back(std::move(layer));
    }
    vision.projector_norm =
        w.norm("mlp1.0.weight", "mlp1.0.bias", 1e-5f);  // not the tower's epsilon (spec 4.2)
    vision.projector_in = w.linear({"mlp1.1.weight"}, {"mlp1.1.bias"});
    vision.projector_out = w.linear({"mlp1.3.weight"}, {"mlp1.3.bias"});
    return vision;
}

static Decoder load_decoder(const TextConfig& t, const Checkpoint& checkpoint, WeightLoader& w) {
    const Family& family = find_family(t);
    const auto names = [](const std::vector<std::string>& patterns, int64_t layer) {
        std::vector<std::string> list;
        for (const std::string& p : patterns) list.push_back(p.empty() ? "" : layer_name(p, layer));
        return list;
    };
    Decoder d;
    d.heads = t.heads;
    d.kv_heads = t.kv_heads;
    d.head_dim = t.head_dim;
    d.inv_freq = rope_frequencies(t.rope_theta, t.head_dim);
    for (int64_t n = 0; n < t.layers; ++n) {
        DecoderLayer layer;
        layer.attention_norm = w.norm(layer_name(family.attention_norm, n), "", t.epsilon);
        layer.mlp_norm = w.norm(layer_name(family.mlp_norm, n), "", t.epsilon);
        layer.qkv = w.linear(names(family.qkv, n), names(family.qkv_bias, n));
        layer.out = w.linear({layer_name(family.out, n)}, {""});
        layer.gate_up =
            w.linear(names(family.gate_up, n), std::vector<std::string>(family.gate_up.size()));
        layer.down = w.linear({layer_name(family.down, n)}, {""});
        d.layers.push_back(std::move(layer));
    }
    d.final_norm = w.norm(family.final_norm, "", t.epsilon);
    // A head in the file is used whatever tie_word_embeddings says (spec 5).
    d.head = w.linear({checkpoint.find(family.head) ? family.head : family.embedding}, {""});
    d.embedding = w.table(family.embedding);
    return d;
}

InternVL load_model(Context& ctx, Checkpoint& checkpoint, const ModelConfig& config,
                    const ComputeTypes& types) {
    WeightLoader weights(ctx, checkpoint, types.weights);
    return {config, load_vision(config, weights), load_decoder(config.text, checkpoint, weights)};
}

}  // namespace internvl
