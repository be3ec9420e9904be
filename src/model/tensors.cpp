#include "model/tensors.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <unordered_set>

#include "base/error.h"
#include "model/families.h"
#include "model/filed_codes.h"
#include "model/lora.h"

namespace internvl {

namespace {

using Shape = std::vector<int64_t>;

// Collects the tensors of one part.
struct List {
    std::vector<TensorSpec>& specs;
    Part part;

    void add(const std::string& name, Shape shape, std::optional<Role> role = {}) {
        if (!name.empty()) specs.push_back({name, std::move(shape), part, role});
    }
    void norm(const NormNames& names, int64_t width) {
        add(names.weight, {width});
        add(names.bias, {width});
    }
    // A product that the files cut in parts has its rows shared out among them.
    void linear(const LinearNames& names, const Shape& rows, int64_t in) {
        const Role role = part == Part::vision      ? Role::vision
                          : part == Part::projector ? Role::projector
                                                    : Role::language;
        int64_t all = 0;
        for (const int64_t r : rows) all += r;
        for (size_t i = 0; i < names.weights.size(); ++i) {
            const int64_t out = names.weights.size() == 1 ? all : rows[i];
            add(names.weights[i], {out, in}, role);
            add(names.biases[i], {out});
        }
    }
};

void add_vision(const ModelConfig& c, std::vector<TensorSpec>& specs) {
    const int64_t d = c.vision.hidden, wide = c.vision.intermediate, patch = c.vision.patch;
    const VisionNames names = vision_names(c);
    List list{specs, Part::vision};
    list.add(names.class_row, {1, 1, d});
    list.add(names.patch.weights[0], {d, 3, patch, patch}, Role::patches);
    list.add(names.patch.biases[0], {d});
    list.add(names.positions, {1, c.vision.patches() + 1, d});
    for (int64_t n = 0; n < c.vision.layers; ++n) {
        const VisionLayerNames layer = vision_layer_names(c, n);
        list.norm(layer.attention_norm, d);
        list.norm(layer.mlp_norm, d);
        list.linear(layer.qkv, {d, d, d}, d);
        list.add(layer.q_norm, {d});
        list.add(layer.k_norm, {d});
        list.linear(layer.out, {d}, d);
        list.linear(layer.up, {wide}, d);
        list.linear(layer.down, {d}, wide);
        list.add(layer.attention_scale, {d});
        list.add(layer.mlp_scale, {d});
    }
    List projector{specs, Part::projector};
    const int64_t from = c.projector_width(), to = c.text.hidden;
    projector.norm(names.projector_norm, from);
    projector.linear(names.projector_in, {to}, from);
    projector.linear(names.projector_out, {to}, to);
}

void add_language(const ModelConfig& c, std::vector<TensorSpec>& specs) {
    const TextConfig& t = c.text;
    const DecoderNames names = decoder_names(c);
    const int64_t q = t.heads * t.head_dim, kv = t.kv_heads * t.head_dim;
    List list{specs, Part::language};
    list.add(names.embedding, {t.vocab, t.hidden});
    for (int64_t n = 0; n < t.layers; ++n) {
        const DecoderLayerNames layer = decoder_layer_names(c, n);
        list.norm(layer.attention_norm, t.hidden);
        list.linear(layer.qkv, {q, kv, kv}, t.hidden);
        list.add(layer.q_norm, {t.head_dim});
        list.add(layer.k_norm, {t.head_dim});
        list.linear(layer.out, {t.hidden}, q);
        list.norm(layer.mlp_norm, t.hidden);
        list.linear(layer.gate_up, {t.intermediate, t.intermediate}, t.hidden);
        list.linear(layer.down, {t.hidden}, t.intermediate);
    }
    list.norm(names.final_norm, t.hidden);
    list.add(names.head, {t.vocab, t.hidden}, Role::head);
    specs.back().optional = true;
}

}  // namespace

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

// Both halves of an adapter, of shapes that fit the weight and each other.
static void check_adapter(const Checkpoint& checkpoint, const TensorSpec& spec,
                          std::unordered_set<std::string>& known,
                          std::vector<std::string>& reshaped) {
    const AdapterEntries a = find_adapter(checkpoint, spec.name);
    if (!a.down && !a.up) return;
    known.insert({spec.name + ".lora_A", spec.name + ".lora_B"});
    const bool fits = a.down && a.up && spec.shape.size() == 2 && a.down->shape.size() == 2 &&
                      a.up->shape.size() == 2 && a.down->shape[1] == spec.shape[1] &&
                      a.up->shape[0] == spec.shape[0] && a.up->shape[1] == a.down->shape[0];
    if (!fits)
        reshaped.push_back(fmt::format("the adapter of {} is not [rank, {}] with [{}, rank]",
                                       spec.name, spec.shape.back(), spec.shape.front()));
}

Layout layout_of(const Checkpoint& checkpoint, Layout configured) {
    if (configured == Layout::original) return configured;
    for (const TensorEntry& entry : checkpoint.entries())
        if (entry.name.starts_with("vision_tower.")) return Layout::hf;
    return Layout::hf_wrapped;
}

// AWQ may leave modules out; where a head is absent, the embedding serves as it is filed.
static bool kept_plain(const Checkpoint& checkpoint, const TensorSpec& spec,
                       const std::vector<TensorPlan>& codes, const FiledQuant& quant) {
    const bool plain = checkpoint.find(spec.name);
    return quant.method == FiledQuant::Method::awq
               ? plain
               : spec.optional && !plain && !checkpoint.find(codes[1].name);
}

// A weight that the folder keeps in fewer bits.
static void check_codes(const Checkpoint& checkpoint, const TensorSpec& spec,
                        const std::vector<TensorPlan>& codes, const QuantPolicy& policy,
                        std::unordered_set<std::string>& known, std::vector<std::string>& missing,
                        std::vector<std::string>& reshaped) {
    const int64_t in = spec.shape[1], group = int4_group(policy, in);
    if (policy.group != 0 && (in % group != 0 || in % 8 != 0))
        reshaped.push_back(fmt::format("{} has {} inputs, which is no multiple of group_size {}",
                                       spec.name, in, policy.group));
    for (const TensorPlan& t : codes) {
        known.insert(t.name);
        const TensorEntry* entry = checkpoint.find(t.name);
        if (!entry)
            missing.push_back(t.name);
        else if (entry->shape != t.shape || entry->dtype != t.dtype)
            reshaped.push_back(fmt::format("{} is {} [{}], the configuration says {} [{}]", t.name,
                                           dtype_name(entry->dtype), fmt::join(entry->shape, ", "),
                                           dtype_name(t.dtype), fmt::join(t.shape, ", ")));
    }
}

void check_tensors(const Checkpoint& checkpoint, const ModelConfig& config) {
    std::vector<std::string> missing, reshaped, unknown;
    std::unordered_set<std::string> known;
    for (const TensorSpec& spec : expected_tensors(config)) {
        const auto codes = code_tensors(spec, config.quant.parts);
        if (!codes.empty() && !kept_plain(checkpoint, spec, codes, config.quant)) {
            check_codes(checkpoint, spec, codes, config.quant.parts, known, missing, reshaped);
            continue;
        }
        known.insert(spec.name);
        const TensorEntry* entry = checkpoint.find(spec.name);
        if (!entry && !spec.optional) missing.push_back(spec.name);
        if (entry && entry->shape != spec.shape)
            reshaped.push_back(fmt::format("{} is [{}], the configuration says [{}]", spec.name,
                                           fmt::join(entry->shape, ", "),
                                           fmt::join(spec.shape, ", ")));
        check_adapter(checkpoint, spec, known, reshaped);
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
