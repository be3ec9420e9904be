#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "model/quantize.h"
#include "tensor/dtype.h"

namespace internvl {

constexpr int64_t most_positions = 1 << 24;  // what no sequence comes near

// Numbers of the vision tower (spec 3.1).
struct VisionConfig {
    int64_t hidden = 0, layers = 0, heads = 0, intermediate = 0;
    int64_t image_size = 448, patch = 14;
    float epsilon = 1e-6f;
    bool qkv_bias = true, qk_norm = false;
    bool rms_norm = false;  // else layer norm
    int64_t patches() const { return (image_size / patch) * (image_size / patch); }
};

// How rotary frequencies change with the length of a sequence (spec 5.2, 5.3).
struct RopeScaling {
    enum class Kind { none, dynamic_ntk, longrope } kind = Kind::none;
    double factor = 1;                               // dynamic_ntk
    std::vector<float> short_factors, long_factors;  // longrope: [head_dim/2] each
    int64_t original_positions = 0;                  // longrope: short up to here
};

// Numbers of the language model (spec 5.0).
struct TextConfig {
    std::string architecture;  // "Qwen2ForCausalLM"
    int64_t hidden = 0, layers = 0, heads = 0, kv_heads = 0, head_dim = 0, intermediate = 0;
    int64_t vocab = 0, max_positions = 0;
    float epsilon = 1e-6f;
    double rope_theta = 1e4;
    RopeScaling rope;
    std::optional<int> bos_token, eos_token, pad_token;
};

// Whose names a folder goes by: the released ones, or those of the converted "-hf" folders, older
// and newer (spec 11.4).
enum class Layout { original, hf, hf_wrapped };

// config.json of a released folder (spec 0.2).
struct ModelConfig {
    Layout layout = Layout::original;
    VisionConfig vision;
    TextConfig text;
    std::string template_name;
    std::optional<std::string> system_message;
    DType dtype = DType::bf16;  // of the weights
    int64_t vision_layers = 0;  // run up to the selected one (spec 3.6)
    bool transposed_shuffle = false;
    int64_t min_tiles = 1, max_tiles = 12;
    bool use_thumbnail = true, dynamic_tiles = true;
    FiledQuant quant;

    int64_t projector_width() const { return 4 * vision.hidden; }
};

// Reads config.json. Fields that change the result and are not understood are refused by name,
// others are ignored; numbers that cannot be are refused too. Throws Error.
ModelConfig parse_config(const std::string& json, const std::string& where);

}  // namespace internvl
