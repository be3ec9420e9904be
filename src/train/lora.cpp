#include "train/lora.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>

#include "base/error.h"

namespace internvl {

static constexpr float adapter_scale = 2;  // alpha / rank

// A product of its own whose weights are packed from `values`.
static Linear packed(Context& ctx, const Tensor& values) {
    Block block;
    block.format = ctx.activations;
    block.out = values.dim[0], block.in = values.dim[1];
    block.packed = map_memory(size_t(packed_bytes(block.format, block.out, block.in)));
    ctx.kernels.pack(values, block.format, block.packed.get(), ctx.pool);
    return {{block}, block.in, block.out, 0};
}

static void adapt(Context& ctx, Block& block, int64_t rank, std::mt19937_64& random) {
    Adapter a;
    a.down_values = make_tensor(DType::f32, {rank, block.in});
    a.up_values = make_tensor(DType::f32, {block.out, rank});
    const float bound = 1 / std::sqrt(float(block.in));
    for (int64_t i = 0; i < rank * block.in; ++i)  // 24 bits: the same everywhere
        a.down_values.as<float>()[i] = (float(random() >> 40) * 0x1p-23f - 1) * bound;
    std::memset(a.up_values.data, 0, size_t(a.up_values.bytes()));
    a.down = packed(ctx, a.down_values);
    a.up = packed(ctx, a.up_values);
    a.scale = make_tensor(DType::f32, {block.out});
    std::fill_n(a.scale.as<float>(), block.out, adapter_scale);
    block.adapter = std::make_shared<Adapter>(std::move(a));
}

void add_adapters(Context& ctx, InternVL& model, const LoraOptions& options) {
    if (options.language % 2 != 0 || options.vision % 2 != 0)  // 16-bit products go by pairs
        throw UsageError("the rank of adapters must be even", "2, 4, 8, ...",
                         fmt::format("{}, {}", options.language, options.vision));
    std::mt19937_64 random(options.seed);
    const auto adapt_all = [&](int64_t rank, std::initializer_list<Linear*> layers) {
        for (Linear* layer : layers)
            for (Block& block : layer->blocks)
                if (rank > 0) adapt(ctx, block, rank, random);
    };
    for (VisionLayer& v : model.vision.layers)
        adapt_all(options.vision, {&v.qkv, &v.out, &v.up, &v.down});
    for (DecoderLayer& d : model.decoder.layers)
        adapt_all(options.language, {&d.qkv, &d.out, &d.gate_up, &d.down});
}

}  // namespace internvl
