#include "model/memory.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "model/families.h"
#include "model/members.h"
#include "model/tensors.h"

namespace internvl {

namespace {

int64_t elements(const TensorSpec& spec) {
    int64_t n = 1;
    for (const int64_t d : spec.shape) n *= d;
    return n;
}

// The tensors that are loaded, sorted by what becomes of them.
template <class Product, class Vector>
void each_tensor(ModelConfig c, Product product, Vector vector) {
    c.vision.layers = c.vision_layers;  // those behind the selected one are not read
    const std::string embedding = decoder_names(c).embedding;
    for (const TensorSpec& spec : expected_tensors(c)) {
        if (spec.name == embedding) continue;
        if (spec.role)
            product(spec, *spec.role);
        else
            vector(spec);
    }
}

}  // namespace

static int64_t packed(const ModelConfig& c, const ComputeTypes& types, const TensorSpec& s,
                      Role role) {
    const int64_t out = s.shape[0], in = elements(s) / out;
    const DType dtype = types.weights.value_or(c.dtype);
    return (packed_bytes(types.format(s.name, role, in, dtype), out, in) + 63) / 64 * 64;
}

int64_t weight_bytes(const ModelConfig& c, const ComputeTypes& types) {
    int64_t bytes = 0;
    each_tensor(
        c, [&](const TensorSpec& s, Role role) { bytes += packed(c, types, s, role); },
        [&](const TensorSpec& s) { bytes += elements(s) * size_of(DType::f32); });
    return bytes;
}

int64_t language_bytes(const ModelConfig& c, const ComputeTypes& types) {
    int64_t bytes = 0;
    each_tensor(
        c,
        [&](const TensorSpec& s, Role role) {
            if (s.part == Part::language) bytes += packed(c, types, s, role);
        },
        [](const TensorSpec&) {});
    return bytes;
}

int64_t cache_bytes(const TextConfig& t, DType kept_as) {
    CacheView layer;
    layer.dtype = kept_as, layer.heads = t.kv_heads, layer.head_dim = padded_head(t.head_dim);
    return 2 * t.layers * layer.block_stride() * size_of(kept_as) / cache_block;
}

// The arena keeps blocks for reuse, so what counts is the sum over the kinds of tensors that one
// layer asks for, not the most that lives at a time.
int64_t activation_bytes(const ModelConfig& c, DType activations, int64_t tokens, int64_t tiles) {
    const VisionConfig& v = c.vision;
    const TextConfig& t = c.text;
    const int64_t size = size_of(activations);
    const int64_t at_once = std::min(tiles, usual_tiles), rows = at_once * (v.patches() + 1);
    const int64_t store = 2 * v.heads * padded_head(v.hidden / v.heads);  // keys and values
    const int64_t pixels = 3 * v.image_size * v.image_size;  // of a tile, once more as patches
    const int64_t tower = at_once * 2 * pixels + rows * (6 * v.hidden + store + v.intermediate) +
                          rows / 4 * (2 * c.projector_width() + 2 * t.hidden);
    const int64_t chunk = std::min(tokens, usual_chunk);
    const int64_t qkv = (t.heads + 2 * t.kv_heads) * t.head_dim;
    const int64_t decoder = chunk * (t.hidden + qkv + t.heads * t.head_dim + 3 * t.intermediate);
    const int64_t embedded = (tokens + tiles * v.patches() / 4) * t.hidden;
    const int64_t singles = chunk * t.head_dim + t.vocab;  // rotations and logits, always fp32
    return (tower + decoder + embedded) * size + singles * size_of(DType::f32);
}

// What must be free to load the model and to talk about one picture.
static int64_t needed_bytes(const ModelConfig& c, const ComputeTypes& types) {
    constexpr int64_t program = 64 << 20, tokens = 4096;  // the picture and a page of text
    return program + weight_bytes(c, types) + tokens * cache_bytes(c.text, types.cache()) +
           activation_bytes(c, types.activations, tokens, c.max_tiles + 1);
}

static std::string gib(int64_t bytes) {
    return fmt::format("{:.1f} GiB", double(bytes) / double(1 << 30));
}

// Another type, or else the largest member of the family.
static std::string what_would_fit(const ModelConfig& c, int64_t available) {
    const ComputeTypes bf16{DType::bf16, DType::bf16, c.quant.parts},
        fp16{DType::f32, DType::f16, c.quant.parts};
    for (const ComputeTypes& types : {bf16, fp16})
        if (needed_bytes(c, types) <= available)
            return fmt::format("; --dtype {} needs {}", types.name(), gib(needed_bytes(c, types)));
    for (const Quant quant : {Quant::int8, Quant::int4}) {
        const ComputeTypes types{DType::bf16, DType::bf16, QuantPolicy(quant).over(c.quant.parts)};
        if (needed_bytes(c, types) <= available)
            return fmt::format("; --quant {} needs {}", quant_name(quant),
                               gib(needed_bytes(c, types)));
    }
    std::string text;
    for (const Member& member : members())
        if (const int64_t bytes = needed_bytes(member.parsed(), {DType::bf16, DType::bf16});
            bytes <= available)
            text = fmt::format("; {} needs {}", member.name, gib(bytes));
    return text;
}

void memory_check(const ModelConfig& c, const ComputeTypes& types, const std::string& where,
                  int64_t available) {
    const int64_t needed = needed_bytes(c, types);
    if (needed > available)
        throw Error("the model does not fit in memory",
                    fmt::format("{} free for it as {}", gib(needed), types.name()),
                    gib(available) + " available" + what_would_fit(c, available), where);
}

}  // namespace internvl
