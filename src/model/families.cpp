#include "model/families.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <unordered_set>

#include "base/error.h"

namespace internvl {

static const Family families[] = {
    {
        .architecture = "Qwen2ForCausalLM",
        .embedding = "language_model.model.embed_tokens.weight",
        .final_norm = "language_model.model.norm.weight",
        .head = "language_model.lm_head.weight",
        .attention_norm = "language_model.model.layers.{}.input_layernorm.weight",
        .mlp_norm = "language_model.model.layers.{}.post_attention_layernorm.weight",
        .qkv = {"language_model.model.layers.{}.self_attn.q_proj.weight",
                "language_model.model.layers.{}.self_attn.k_proj.weight",
                "language_model.model.layers.{}.self_attn.v_proj.weight"},
        .qkv_bias = {"language_model.model.layers.{}.self_attn.q_proj.bias",
                     "language_model.model.layers.{}.self_attn.k_proj.bias",
                     "language_model.model.layers.{}.self_attn.v_proj.bias"},
        .out = "language_model.model.layers.{}.self_attn.o_proj.weight",
        .gate_up = {"language_model.model.layers.{}.mlp.gate_proj.weight",
                    "language_model.model.layers.{}.mlp.up_proj.weight"},
        .down = "language_model.model.layers.{}.mlp.down_proj.weight",
    },
};

const Family& find_family(const TextConfig& config) {
    std::string known;
    for (const Family& family : families) {
        if (family.architecture == config.architecture) return family;
        known += (known.empty() ? "" : ", ") + family.architecture;
    }
    throw Error("the language model's class is not supported yet", known, config.architecture,
                "config.json, llm_config.architectures");
}

std::string layer_name(const std::string& pattern, int64_t layer) {
    return fmt::format(fmt::runtime(pattern), layer);
}

static void add_vision(const ModelConfig& c, std::vector<TensorSpec>& list) {
    const int64_t d = c.vision.hidden, wide = c.vision.intermediate, patch = c.vision.patch;
    const auto add = [&](const std::string& name, std::vector<int64_t> shape) {
        list.push_back({"vision_model." + name, std::move(shape), Part::vision});
    };
    add("embeddings.class_embedding", {1, 1, d});
    add("embeddings.patch_embedding.weight", {d, 3, patch, patch});
    add("embeddings.patch_embedding.bias", {d});
    add("embeddings.position_embedding", {1, c.vision.patches() + 1, d});
    for (int64_t n = 0; n < c.vision.layers; ++n) {
        const std::string layer = fmt::format("encoder.layers.{}.", n);
        for (const char* norm : {"norm1", "norm2"}) {
            add(layer + norm + ".weight", {d});
            add(layer + norm + ".bias", {d});
        }
        add(layer + "attn.qkv.weight", {3 * d, d});
        if (c.vision.qkv_bias) add(layer + "attn.qkv.bias", {3 * d});
        add(layer + "attn.proj.weight", {d, d});
        add(layer + "attn.proj.bias", {d});
        add(layer + "mlp.fc1.weight", {wide, d});
        add(layer + "mlp.fc1.bias", {wide});
        add(layer + "mlp.fc2.weight", {d, wide});
        add(layer + "mlp.fc2.bias", {d});
        add(layer + "ls1", {d});
        add(layer + "ls2", {d});
    }
    const auto project = [&](const std::string& name, std::vector<int64_t> shape) {
        list.push_back({"mlp1." + name, std::move(shape), Part::projector});
    };
    const int64_t from = c.projector_width(), to = c.text.hidden;
    project("0.weight", {from});
    project("0.bias", {from});
    project("1.weight", {to, from});
    project("1.bias", {to});
    project("3.weight", {to, to});
    project("3.bias", {to});
}

static void add_language(const ModelConfig& c, std::vector<TensorSpec>& list) {
    const TextConfig& t = c.text;
    const Family& family = find_family(t);
    const auto add = [&](const std::string& name, std::vector<int64_t> shape) {
        list.push_back({name, std::move(shape), Part::language});
    };
    const int64_t q = t.heads * t.head_dim, kv = t.kv_heads * t.head_dim;
    // A product that the files cut in parts has its rows shared out among them.
    const std::vector<int64_t> qkv_rows = {q, kv, kv},
                               gate_up_rows = {t.intermediate, t.intermediate};
    add(family.embedding, {t.vocab, t.hidden});
    for (int64_t n = 0; n < t.layers; ++n) {
        add(layer_name(family.attention_norm, n), {t.hidden});
        for (size_t i = 0; i < family.qkv.size(); ++i) {
            add(layer_name(family.qkv[i], n), {qkv_rows[i], t.hidden});
            if (!family.qkv_bias[i].empty()) add(layer_name(family.qkv_bias[i], n), {qkv_rows[i]});
        }
        add(layer_name(family.out, n), {t.hidden, q});
        add(layer_name(family.mlp_norm, n), {t.hidden});
        for (size_t i = 0; i < family.gate_up.size(); ++i)
            add(layer_name(family.gate_up[i], n), {gate_up_rows[i], t.hidden});
        add(layer_name(family.down, n), {t.hidden, t.intermediate});
    }
    add(family.final_norm, {t.hidden});
    add(family.head, {t.vocab, t.hidden});
    list.back().optional = true;
}

std::vector<TensorSpec> expected_tensors(const ModelConfig& config) {
    std::vector<TensorSpec> list;
    add_vision(config, list);
    add_language(config, list);
    return list;
}

ParameterCount count_parameters(const ModelConfig& config) {
    ParameterCount count;
    for (const TensorSpec& spec : expected_tensors(config)) {
        int64_t n = 1;
        for (const int64_t d : spec.shape) n *= d;
        (spec.part == Part::vision      ? count.vision
         : spec.part == Part::projector ? count.projector
                                        : count.language) += n;
    }
    count.total = count.vision + count.projector + count.language;
    return count;
}

// "3 tensors are missing: a, b, c" for a message, at most 12 of them by name.
static void report(const std::vector<std::string>& list, const char* what,
                   std::vector<std::string>& problems) {
    if (list.empty()) return;
    const size_t shown = std::min<size_t>(list.size(), 12);
    problems.push_back(fmt::format("{} {}: {}{}", list.size(), what,
                                   fmt::join(list.begin(), list.begin() + long(shown), ", "),
                                   shown < list.size() ? ", ..." : ""));
}

void check_tensors(const Checkpoint& checkpoint, const ModelConfig& config) {
    std::vector<std::string> missing, reshaped, unknown;
    std::unordered_set<std::string> known;
    for (const TensorSpec& spec : expected_tensors(config)) {
        known.insert(spec.name);
        const TensorEntry* entry = checkpoint.find(spec.name);
        if (!entry && !spec.optional) missing.push_back(spec.name);
        if (entry && entry->shape != spec.shape)
            reshaped.push_back(fmt::format("{} is [{}], the configuration says [{}]", spec.name,
                                           fmt::join(entry->shape, ", "),
                                           fmt::join(spec.shape, ", ")));
    }
    for (const TensorEntry& entry :
         checkpoint.entries())  // buffers of old saves are no weights (spec 5.6)
        if (!known.contains(entry.name) && !entry.name.ends_with(".inv_freq"))
            unknown.push_back(entry.name);
    std::vector<std::string> problems;
    report(missing, "missing", problems);
    report(reshaped, "of another shape", problems);
    report(unknown, "not known", problems);
    if (!problems.empty())
        throw Error(
            fmt::format("the tensors are not those of config.json: {}", fmt::join(problems, "; ")),
            "", "", checkpoint.where());
}

}  // namespace internvl
