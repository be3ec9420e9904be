#include "model/internvl.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "base/log.h"
#include "model/families.h"
#include "model/weight_cache.h"
#include "model/weights.h"

namespace internvl {

const char* ComputeTypes::name() const {
    return activations == DType::bf16 ? "bf16" : weights == DType::f16 ? "fp16" : "fp32";
}

WeightFormat ComputeTypes::format(const std::string& name, Role role, int64_t in,
                                  DType plain) const {
    return name == left_alone ? WeightFormat(plain) : weight_format(quant, role, in, plain);
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
    const VisionNames names = vision_names(c);
    Vision vision;
    vision.heads = v.heads;
    vision.patch = v.patch;
    vision.transposed_shuffle = c.transposed_shuffle;
    vision.patch_embedding = w.linear(names.patch, Role::patches);
    const int64_t rows = v.patches() + 1;
    vision.first_row = w.sum(names.class_row, names.positions, v.hidden);
    const Tensor positions = w.activations(names.positions, rows, v.hidden);
    vision.positions = {positions.slice(0, 1, rows - 1), positions.owner};
    for (int64_t n = 0; n < c.vision_layers; ++n) {
        const VisionLayerNames of = vision_layer_names(c, n);
        VisionLayer layer;
        layer.attention_norm = w.norm(of.attention_norm, v.epsilon);
        layer.mlp_norm = w.norm(of.mlp_norm, v.epsilon);
        layer.q_norm = w.norm({of.q_norm, ""}, v.epsilon);
        layer.k_norm = w.norm({of.k_norm, ""}, v.epsilon);
        layer.qkv = w.linear(of.qkv, Role::vision);
        layer.out = w.linear(of.out, Role::vision);
        layer.up = w.linear(of.up, Role::vision);
        layer.down = w.linear(of.down, Role::vision);
        layer.attention_scale = w.vector(of.attention_scale);
        layer.mlp_scale = w.vector(of.mlp_scale);
        vision.layers.push_back(std::move(layer));
    }
    vision.projector_norm =
        w.norm(names.projector_norm, 1e-5f);  // not the tower's epsilon (spec 4.2)
    vision.projector_in = w.linear(names.projector_in, Role::projector);
    vision.projector_out = w.linear(names.projector_out, Role::projector);
    return vision;
}

static Decoder load_decoder(const ModelConfig& c, const Checkpoint& checkpoint, WeightLoader& w) {
    const TextConfig& t = c.text;
    const DecoderNames names = decoder_names(c);
    Decoder d;
    d.heads = t.heads;
    d.kv_heads = t.kv_heads;
    d.head_dim = t.head_dim;
    d.interleaved = find_family(t).qkv_interleaved;
    // A head in the file is used whatever tie_word_embeddings says (spec 5). The largest tensor
    // comes first: while it is packed, nothing else is in memory.
    d.head =
        w.linear({{checkpoint.find(names.head) ? names.head : names.embedding}, {""}}, Role::head);
    for (int64_t n = 0; n < t.layers; ++n) {
        const DecoderLayerNames of = decoder_layer_names(c, n);
        DecoderLayer layer;
        layer.attention_norm = w.norm(of.attention_norm, t.epsilon);
        layer.mlp_norm = w.norm(of.mlp_norm, t.epsilon);
        layer.q_norm = w.norm({of.q_norm, ""}, t.epsilon);
        layer.k_norm = w.norm({of.k_norm, ""}, t.epsilon);
        layer.qkv = w.linear(of.qkv, Role::language);
        layer.out = w.linear(of.out, Role::language);
        layer.gate_up = w.linear(of.gate_up, Role::language);
        layer.down = w.linear(of.down, Role::language);
        d.layers.push_back(std::move(layer));
    }
    d.final_norm = w.norm(names.final_norm, t.epsilon);
    d.embedding = w.table(names.embedding);
    return d;
}

static InternVL load(const ModelConfig& config, const Checkpoint& checkpoint, WeightLoader& w) {
    InternVL model;
    model.config = config;
    model.decoder = load_decoder(config, checkpoint, w);
    model.vision = load_vision(config, w);
    return model;
}

InternVL load_model(Context& ctx, Checkpoint& checkpoint, const ModelConfig& config,
                    const ComputeTypes& types, WeightCache* cache,
                    const std::function<void(double)>& on_share) {
    if (auto kept = cache ? cache->find(ctx, checkpoint, types) : std::nullopt) {
        WeightLoader weights(ctx, checkpoint, types, config.quant.parts, std::move(kept));
        InternVL model = load(config, checkpoint, weights);
        if (weights.store().complete()) return model;
        log_info("packed weights of another make, which are replaced: {}", checkpoint.where());
    }
    WeightLoader weights(ctx, checkpoint, types, config.quant.parts, {}, on_share);
    InternVL model = load(config, checkpoint, weights);
    if (cache) cache->keep(ctx, weights.store());
    return model;
}

}  // namespace internvl
