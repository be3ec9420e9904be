#include "model/identity.h"

#include <algorithm>

#include "model/lora.h"
#include "model/tensors.h"

namespace internvl {

static void add(Digest& digest, const std::string& text) {
    digest.update(text.c_str(), text.size() + 1);
}

// The beginning, the middle and the end: training changes all of a tensor.
static void add(Digest& digest, const TensorEntry* entry) {
    if (!entry) return;
    constexpr size_t sample = 4096;
    add(digest, entry->name);
    add(digest, dtype_name(entry->dtype));
    digest.update(entry->shape.data(), entry->shape.size() * sizeof entry->shape[0]);
    const size_t size = entry->bytes.size(), count = std::min(size, sample);
    for (const size_t at : {size_t(0), (size - count) / 2, size - count})
        digest.update(entry->bytes.data() + at, count);
}

// Numbers of all sizes from -2 to 2, always the same.
static Tensor test_pattern(int64_t rows, int64_t columns) {
    const Tensor pattern = make_tensor(DType::f32, {rows, columns});
    for (int64_t i = 0; i < pattern.size(); ++i)
        pattern.as<float>()[i] = float(i * 7919 % 1021) / 256 - 2;
    return pattern;
}

// A part of a tile, large enough for attention to take its keys in more than one span.
static void add_test_picture(Digest& digest, Context& ctx, const InternVL& model) {
    const int64_t patch = model.vision.patch;
    const int64_t grid = std::min<int64_t>(18, model.config.vision.image_size / patch);
    const int64_t side = grid * patch;
    const Tensor pixels = ctx.arena.get(ctx.activations, {3 * side, side});
    copy(ctx, test_pattern(3 * side, side), pixels);
    Vision tower = model.vision;
    tower.layers.resize(1);
    tower.positions = {tower.positions.slice(0, 0, grid * grid), tower.positions.owner};
    const Tensor rows = tower.forward(ctx, pixels.reshape({1, 3, side, side}));
    digest.update(rows.data, size_t(rows.bytes()));
}

DigestKey vision_identity(Context& ctx, const Checkpoint& checkpoint, const InternVL& model,
                          const ComputeTypes& types) {
    Digest digest;
    add(digest, types.name());
    add(digest, types.quant.text());
    const size_t layers = model.vision.layers.size();
    digest.update(&layers, sizeof layers);
    for (const TensorSpec& spec : expected_tensors(model.config)) {
        if (spec.part == Part::language) continue;
        const AdapterEntries adapter = find_adapter(checkpoint, spec.name);
        for (const TensorEntry* entry : {checkpoint.find(spec.name), adapter.down, adapter.up})
            add(digest, entry);
    }
    add_test_picture(digest, ctx, model);
    return digest.key();
}

// Packed in every way: layout and rounding show in it.
static void add_test_matrix(Digest& digest, Context& ctx) {
    constexpr int64_t out = 70, in = 128;
    const Tensor weight = test_pattern(out, in);
    for (const WeightFormat format :
         {WeightFormat(DType::f32), WeightFormat(DType::bf16), WeightFormat(DType::f16),
          WeightFormat(WeightFormat::int8), WeightFormat(WeightFormat::int4, 64),
          WeightFormat(WeightFormat::int4, 8)}) {
        const int64_t bytes = packed_bytes(format, out, in);
        const Tensor packed = make_tensor(DType::u8, {bytes});
        ctx.kernels.pack(weight, format, packed.data, ctx.pool);
        digest.update(packed.data, size_t(bytes));
    }
}

// All that the numbers of weights follow from, and how they are kept.
static void add_weights(Digest& digest, Context& ctx, const Checkpoint& checkpoint,
                        const ComputeTypes& types) {
    add(digest, isa_name(ctx.kernels.isa));
    add(digest, types.name());
    add(digest, types.quant.text());
    add(digest, types.left_alone);
    digest.update(&types.outliers_from, sizeof types.outliers_from);
    for (const TensorEntry& entry : checkpoint.entries()) {
        add(digest, &entry);
        checkpoint.drop(entry);  // a sample brings in the large page around it
    }
    add_test_matrix(digest, ctx);
}

DigestKey weights_identity(Context& ctx, const Checkpoint& checkpoint, const ComputeTypes& types) {
    Digest digest;
    add(digest, checkpoint.stamp());
    add_weights(digest, ctx, checkpoint, types);
    return digest.key();
}

DigestKey answers_identity(Context& ctx, const Checkpoint& checkpoint, const ComputeTypes& types) {
    Digest digest;
    const DType cache = types.cache();
    digest.update(&cache, sizeof cache);
    add_weights(digest, ctx, checkpoint, types);
    return digest.key();
}

}  // namespace internvl
