#pragma once
#include <functional>
#include <span>

#include "io/checkpoint.h"
#include "model/config.h"
#include "model/decoder.h"
#include "model/quantize.h"
#include "model/vision.h"

namespace internvl {

// A loaded model: pictures to rows, rows to logits (spec 0.1).
struct InternVL {
    ModelConfig config;
    Vision vision;
    Decoder decoder;

    // Embeddings of `ids` with the rows of pictures in place of <IMG_CONTEXT> tokens (spec 6.2 step
    // 6)
    // -> [ids, width]. Throws Error when the number of places is not the number of rows, or an id
    // has no row.
    Tensor embed(Context&, std::span<const int> ids, const View& picture_rows,
                 int context_token) const;
};

// What --dtype, --quant and --kv-cache mean for a checkpoint on this machine (cli.md): the type of
// activations, of product weights unless they stay as filed or are quantised, of keys and values.
struct ComputeTypes {
    DType activations = DType::f32;
    std::optional<DType> weights;
    QuantPolicy quant = {};
    bool cache_in_bytes = false;
    // LLM.int8 (ops/llm_int8.h) in place of int8, from this threshold on; 0: not.
    float outliers_from = 0;
    std::string left_alone = {};  // the weight of a product that stays plain there

    // How the weight of a product is kept.
    WeightFormat format(const std::string& name, Role, int64_t in, DType plain) const;
    const char* name() const;  // "bf16", "fp16" or "fp32"
    DType cache() const { return cache_in_bytes ? DType::i8 : activations; }
};
ComputeTypes choose_types(const std::string& dtype, DType filed, bool native_bf16);

class WeightCache;

// Reads every tensor, or takes what is in the cache; the checkpoint's folder must have been checked
// (tensors.h). The embedding table stays in the mapped file: keep the checkpoint as long as the
// model. `on_share` hears of the files' bytes how many were packed.
InternVL load_model(Context&, Checkpoint&, const ModelConfig&, const ComputeTypes&,
                    WeightCache* = nullptr, const std::function<void(double)>& on_share = {});

}  // namespace internvl
