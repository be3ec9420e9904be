#include "model/config.h"

#include <fmt/format.h>

#include "base/error.h"
#include "base/json.h"
#include "model/families.h"

namespace internvl {

using nlohmann::json;

namespace {

// One object of the file, with the names of its fields for messages.
class Fields {
  public:
    Fields(const json& object, std::string prefix, const std::string& where)
        : object_(object), prefix_(std::move(prefix)), where_(where) {
        if (!object.is_object()) fail("", "an object");
    }

    Fields section(const char* name) const {
        const json* value = get(name);
        if (!value) fail(name, "a section of this name", "none");
        return {*value, prefix_ + name + ".", where_};
    }
    bool has(const char* name) const { return get(name) != nullptr; }
    const std::string& where() const { return where_; }

    // A whole number in [low, high].
    int64_t count(const char* name, int64_t low, int64_t high,
                  std::optional<int64_t> fallback = {}) const {
        const json* value = get(name);
        if (!value && fallback) return *fallback;
        const std::string range = fmt::format("a whole number from {} to {}", low, high);
        if (!value) fail(name, range, "nothing");
        if (!value->is_number_integer() || value->get<int64_t>() < low ||
            value->get<int64_t>() > high)
            fail(name, range);
        return value->get<int64_t>();
    }
    // The side of a square: a number, or a list of two equal ones.
    int64_t side(const char* name, int64_t low, int64_t high) const {
        const json* value = get(name);
        if (!value || !value->is_array()) return count(name, low, high);
        if (value->size() != 2 || (*value)[0] != (*value)[1]) fail(name, "a square");
        const json one = {{name, (*value)[0]}};
        return Fields(one, prefix_, where_).count(name, low, high);
    }
    double number(const char* name, double low, double high,
                  std::optional<double> fallback = {}) const {
        const json* value = get(name);
        if (!value && fallback) return *fallback;
        if (!value || !value->is_number() ||
            !(value->get<double>() >= low && value->get<double>() <= high))
            fail(name, fmt::format("a number from {} to {}", low, high),
                 value ? value->dump() : "nothing");
        return value->get<double>();
    }
    bool flag(const char* name, bool fallback) const {
        const json* value = get(name);
        if (value && !value->is_boolean()) fail(name, "true or false");
        return value ? value->get<bool>() : fallback;
    }
    std::string text(const char* name, const std::string& fallback) const {
        const json* value = get(name);
        if (value && !value->is_string()) fail(name, "a string");
        return value ? value->get<std::string>() : fallback;
    }
    // A list of positive numbers.
    std::vector<float> numbers(const char* name) const {
        const json* value = get(name);
        if (!value || !value->is_array()) fail(name, "a list of numbers", value ? "" : "nothing");
        std::vector<float> list;
        for (const json& number : *value) {
            if (!number.is_number() || !(number.get<double>() > 0 && number.get<double>() < 1e9))
                fail(name, "a list of positive numbers");
            list.push_back(number.get<float>());
        }
        return list;
    }
    std::optional<int> token(const char* name) const {
        const json* value = get(name);
        if (!value) return std::nullopt;
        return int(count(name, 0, 1 << 24));
    }
    // "architectures": the first one.
    std::string architecture() const {
        const json* value = get("architectures");
        return value && value->is_array() && !value->empty() && (*value)[0].is_string()
                   ? (*value)[0].get<std::string>()
                   : "";
    }

    // The field may be absent or null, else it must have the one value that is understood.
    void only(const char* name, const json& understood) const {
        if (const json* value = get(name); value && *value != understood)
            fail(name, understood.dump());
    }
    [[noreturn]] void fail(const std::string& name, const std::string& expected,
                           std::string found = {}) const {
        if (found.empty() && object_.is_object() && object_.contains(name))
            found = object_[name].dump().substr(0, 80);
        throw Error(fmt::format("configuration field {}{} is not usable", prefix_, name), expected,
                    found, where_);
    }

  private:
    const json* get(const char* name) const {  // null counts as absent
        const auto found = object_.find(name);
        return found == object_.end() || found->is_null() ? nullptr : &*found;
    }

    const json& object_;
    std::string prefix_;
    const std::string& where_;
};

// Bounds that no member of the family comes near; what lies beyond cannot overflow sizes.
constexpr int64_t widest = 1 << 18, deepest = 1024, most_tokens = 1 << 24;

// What the two layouts of config.json call the same things.
struct FieldNames {
    const char *vision, *text, *qkv_bias, *qk_norm, *select_layer;
};
constexpr FieldNames released = {"vision_config", "llm_config", "qkv_bias", "qk_normalization",
                                 "select_layer"};
constexpr FieldNames converted = {"vision_config", "text_config", "attention_bias", "use_qk_norm",
                                  "vision_feature_layer"};

VisionConfig parse_vision(const Fields& f, const FieldNames& names,
                          const std::optional<int64_t>& forced_size) {
    VisionConfig v;
    v.hidden = f.count("hidden_size", 16, widest);
    v.layers = f.count("num_hidden_layers", 1, deepest);
    v.heads = f.count("num_attention_heads", 1, widest);
    v.intermediate = f.count("intermediate_size", 16, widest);
    v.image_size = f.side("image_size", 28, 4096);
    v.patch = f.side("patch_size", 1, 512);
    v.epsilon = float(f.number("layer_norm_eps", 0, 1, 1e-6));
    v.qkv_bias = f.flag(names.qkv_bias, true);
    f.only("hidden_act", "gelu");
    f.only("num_channels", 3);
    const std::string norm = f.text("norm_type", "layer_norm");
    if (norm != "layer_norm" && norm != "rms_norm") f.fail("norm_type", "layer_norm or rms_norm");
    v.rms_norm = norm == "rms_norm";
    v.qk_norm = f.flag(names.qk_norm, false);
    if (v.hidden % v.heads != 0 || v.hidden / v.heads % 2 != 0)
        f.fail("num_attention_heads", fmt::format("heads of an even width out of {}", v.hidden));
    if (v.hidden % 2 != 0 || v.intermediate % 2 != 0) f.fail("intermediate_size", "an even width");
    // A tile is 448 pixels and 1024 patches in every member of the family; prompts count on its 256
    // tokens.
    if (v.image_size != 448) f.fail("image_size", "448");
    if (v.image_size % v.patch != 0 || v.patches() != 1024) f.fail("patch_size", "14");
    if (forced_size && *forced_size != v.image_size)
        f.fail("image_size", fmt::format("{}, as force_image_size (positions are not interpolated)",
                                         *forced_size));
    return v;
}

std::vector<float> factors(const Fields& f, const char* name, int64_t count) {
    std::vector<float> list = f.numbers(name);
    if (int64_t(list.size()) != count)
        f.fail(name, fmt::format("{} numbers, one for each pair of a head", count),
               fmt::format("{}", list.size()));
    return list;
}

// rope_scaling, which newer folders call rope_parameters.
RopeScaling parse_rope(const Fields& f, const TextConfig& t) {
    RopeScaling r;
    const char* name = f.has("rope_parameters") ? "rope_parameters" : "rope_scaling";
    if (!f.has(name)) return r;
    const Fields rope = f.section(name);
    const std::string type = rope.text("rope_type", rope.text("type", ""));
    if (type == "default") return r;
    if (type == "dynamic") {
        r.kind = RopeScaling::Kind::dynamic_ntk;
        r.factor = rope.number("factor", 1, 1e6);
    } else if (type == "su" || type == "longrope") {
        r.kind = RopeScaling::Kind::longrope;
        r.original_positions = f.count("original_max_position_embeddings", 2, most_tokens);
        r.short_factors = factors(rope, "short_factor", t.head_dim / 2);
        r.long_factors = factors(rope, "long_factor", t.head_dim / 2);
    } else {
        rope.fail("type", "dynamic, su or longrope", type);
    }
    return r;
}

// The class, or the one that belongs to the model type where the folder names none.
std::string parse_architecture(const Fields& f) {
    const std::string named = f.architecture(), type = f.text("model_type", "");
    if (!named.empty()) return named;
    return type == "qwen2"   ? "Qwen2ForCausalLM"
           : type == "qwen3" ? "Qwen3ForCausalLM"
           : type == "llama" ? "LlamaForCausalLM"
                             : type;
}

TextConfig parse_text(const Fields& f, Layout layout) {
    TextConfig t;
    t.architecture = parse_architecture(f);
    const Family& family = find_family(t);  // says by name what is not supported, before all else
    t.hidden = f.count("hidden_size", 16, widest);
    t.layers = f.count("num_hidden_layers", 1, deepest);
    t.heads = f.count("num_attention_heads", 1, widest);
    t.kv_heads = f.count("num_key_value_heads", 1, widest, t.heads);
    t.intermediate = f.count("intermediate_size", 2, widest);
    t.vocab = f.count("vocab_size", 1, most_tokens);
    t.max_positions = f.count("max_position_embeddings", 1, most_tokens);
    t.epsilon = float(f.number("rms_norm_eps", 0, 1, 1e-6));
    const bool nested = f.has("rope_parameters") && f.section("rope_parameters").has("rope_theta");
    t.rope_theta = (nested ? f.section("rope_parameters") : f).number("rope_theta", 1, 1e12, 1e4);
    t.bos_token = f.token("bos_token_id");
    t.eos_token = f.token("eos_token_id");
    t.pad_token = f.token("pad_token_id");
    f.only("hidden_act", "silu");
    f.only("use_sliding_window", false);
    f.only("bias", false);
    f.only("attention_bias", false);
    if (t.hidden % t.heads != 0)
        f.fail("num_attention_heads", fmt::format("a divisor of {}", t.hidden));
    t.head_dim = f.count("head_dim", 2, widest, t.hidden / t.heads);
    if (t.head_dim % 2 != 0) f.fail("num_attention_heads", "heads of an even width");
    if (t.heads % t.kv_heads != 0)
        f.fail("num_key_value_heads", fmt::format("a divisor of {}", t.heads));
    if (t.hidden % 2 != 0 || t.intermediate % 2 != 0) f.fail("intermediate_size", "an even width");
    // The code of the converted folders looks at the field for every class (spec 11.2).
    if (family.scales_rope || layout != Layout::original) t.rope = parse_rope(f, t);
    return t;
}

Quant parse_part(const Fields& f, const char* name, bool int4) {
    const std::string text = f.text(name, "none");
    if (text != "none" && text != "int8" && !(int4 && text == "int4"))
        f.fail(name, int4 ? "none, int8 or int4" : "none or int8");
    return parse_quant(text);
}

// quantization_config: AWQ as its packer writes it, or our own (docs/quantized_folders.md).
FiledQuant parse_quantisation(const Fields& f) {
    const std::string method = f.text("quant_method", "");
    FiledQuant quant;
    if (method == "awq") {
        quant.method = FiledQuant::Method::awq;
        f.only("version", "gemm");
        f.only("bits", 4);
        f.only("zero_point", true);
        quant.parts.language = Quant::int4;
        quant.parts.group = f.count("group_size", -1, widest, 128);
        if (quant.parts.group != -1 && (quant.parts.group == 0 || quant.parts.group % 8 != 0))
            f.fail("group_size", "-1 or a multiple of 8");
    } else if (method == "internvl") {
        quant.method = FiledQuant::Method::internvl;
        f.only("version", 1);
        quant.parts.vision = parse_part(f, "vision", false);
        quant.parts.projector = parse_part(f, "projector", false);
        quant.parts.language = parse_part(f, "language", true);
        quant.parts.head = parse_part(f, "head", false);
    } else {
        f.fail("quant_method", "awq (version gemm, 4 bits) or internvl",
               method.empty() ? "none" : method);
    }
    return quant;
}

DType parse_type(const Fields& f) {
    const std::string name = f.text("torch_dtype", f.text("dtype", "bfloat16"));
    if (name == "bfloat16") return DType::bf16;
    if (name == "float16") return DType::f16;
    if (name == "float32") return DType::f32;
    f.fail("torch_dtype", "bfloat16, float16 or float32");
}

// The released layout, or the converted one of the "-hf" folders (spec 11.4).
Layout parse_layout(const Fields& f) {
    const std::string type = f.text("model_type", "");
    if (type == "internvl_chat" && f.has("vision_config") && f.has("llm_config"))
        return Layout::original;
    if (type == "internvl" && f.has("vision_config") && f.has("text_config"))
        return Layout::hf_wrapped;
    throw Error("this is not an InternVL model",
                "model_type internvl_chat with vision_config and llm_config, or internvl with "
                "vision_config and text_config",
                type.empty() ? f.architecture() : type, f.where());
}

// How pictures become rows, and prompts are written.
void parse_frame(const Fields& f, const FieldNames& names, ModelConfig& c) {
    const bool original = c.layout == Layout::original;
    c.template_name = f.text("template", original ? "" : "internvl2_5");
    if (f.has("system_message")) c.system_message = f.text("system_message", "");
    const int64_t select = f.count(names.select_layer, -c.vision.layers - 1, c.vision.layers, -1);
    c.vision_layers = select < 0 ? c.vision.layers + 1 + select : select;
    const std::string shuffle = f.text("ps_version", original ? "v1" : "v2");
    if (shuffle != "v1" && shuffle != "v2") f.fail("ps_version", "v1 or v2");
    c.transposed_shuffle = shuffle == "v1";
    if (f.number("downsample_ratio", 0, 1, 0.5) != 0.5) f.fail("downsample_ratio", "0.5");
    f.only("vision_feature_select_strategy", "default");
    f.only("projector_hidden_act", "gelu");
    c.min_tiles = f.count("min_dynamic_patch", 1, 1024, 1);
    c.max_tiles = f.count("max_dynamic_patch", 1, 1024, 12);
    c.use_thumbnail = f.flag("use_thumbnail", true);
    c.dynamic_tiles = f.flag("dynamic_image_size", true);
}

}  // namespace

ModelConfig parse_config(const std::string& text, const std::string& where) {
    const json root = parse_json(text, where);
    const Fields f(root, "", where);
    ModelConfig c;
    c.layout = parse_layout(f);
    const FieldNames& names = c.layout == Layout::original ? released : converted;
    std::optional<int64_t> forced;
    if (f.has("force_image_size")) forced = f.count("force_image_size", 28, 4096);
    c.vision = parse_vision(f.section(names.vision), names, forced);
    c.text = parse_text(f.section(names.text), c.layout);
    c.dtype = parse_type(f);
    parse_frame(f, names, c);
    // Tools write it beside the language model's numbers or at the top.
    for (const Fields& at : {f.section(names.text), f})
        if (at.has("quantization_config"))
            c.quant = parse_quantisation(at.section("quantization_config"));
    return c;
}

}  // namespace internvl
