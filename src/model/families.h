#pragma once
#include <span>
#include <string>
#include <vector>

#include "model/config.h"

namespace internvl {

// How the files of one class of language model name its tensors: a row per class. `{}` is the
// layer; a list is one product cut into several tensors; "" is a tensor that the class does not
// have.
struct Family {
    std::string architecture;  // llm_config.architectures
    // Below `language_model.model.` (or what a converted folder has there)
    std::string embedding, final_norm;
    std::string attention_norm, mlp_norm;
    std::vector<std::string> qkv;
    std::string q_norm = "", k_norm = "";
    std::string out;
    std::vector<std::string> gate_up;
    std::string down;
    // Below `language_model.`
    std::string head;
    bool qkv_bias = false;
    bool qkv_interleaved = false;  // decoder.h
    bool scales_rope = true;       // its code looks at rope_scaling (spec 11.2)
};

const Family& find_family(
    const TextConfig&);  // throws Error that names the class and the known ones

// The names of one product's tensors; a bias is "" where there is none.
struct LinearNames {
    std::vector<std::string> weights, biases;
};
struct NormNames {
    std::string weight, bias;
};

struct VisionLayerNames {
    NormNames attention_norm, mlp_norm;
    std::string q_norm, k_norm;
    LinearNames qkv, out, up, down;
    std::string attention_scale, mlp_scale;
};
struct VisionNames {
    std::string class_row, positions;
    LinearNames patch;
    NormNames projector_norm;
    LinearNames projector_in, projector_out;
};
struct DecoderLayerNames {
    NormNames attention_norm, mlp_norm;
    std::string q_norm, k_norm;
    LinearNames qkv, out, gate_up, down;
};
struct DecoderNames {
    std::string embedding, head;
    NormNames final_norm;
};

// What a checkpoint of this configuration calls its tensors.
VisionNames vision_names(const ModelConfig&);
VisionLayerNames vision_layer_names(const ModelConfig&, int64_t layer);
DecoderNames decoder_names(const ModelConfig&);
DecoderLayerNames decoder_layer_names(const ModelConfig&, int64_t layer);

}  // namespace internvl
