#include "ops/linear.h"

#include <algorithm>

#include "ops/linear_backward.h"
#include "ops/llm_int8.h"
#include "ops/tape.h"

namespace internvl {

namespace {

// Rows as quantised weights want them, or nothing where these want floats.
struct QuantizedRows {
    Tensor codes, scale, sum;
};

QuantizedRows quantize_rows(Context& ctx, const View& x, const WeightFormat& format) {
    const bool groups = format.kind == WeightFormat::int4;
    if (format.kind == WeightFormat::plain || (groups && x.dtype == DType::f32)) return {};
    const int64_t rows = x.dim[0], in = x.dim[1], parts = groups ? in / format.group : 1;
    QuantizedRows q;
    q.codes = ctx.arena.get(DType::u8, {rows, (in + 3) / 4 * 4});
    q.scale = ctx.arena.get(DType::f32, {rows, parts});
    q.sum = ctx.arena.get(DType::f32, {rows, parts});
    ctx.kernels.quantize_rows({x, groups ? format.group : 0, q.codes.as<uint8_t>(), q.codes.dim[1],
                               q.scale.as<float>(), q.sum.as<float>()},
                              ctx.pool);
    return q;
}

// out = residual + scale * activation(z), z f32 like out.
void finish_into(Context& ctx, const View& z, const View& out, const Epilogue& e) {
    ctx.kernels.finish_rows(
        {z, out, e.activation, e.scale ? e.scale->as<float>() : nullptr, e.residual}, ctx.pool);
    if (ctx.tape) ctx.tape->record([z, out, e](Context& c) { finish_backward(c, z, out, e); });
}

// The product and its place on the tape, adapters left out.
void plain_into(Context& ctx, const View& x, const Linear& layer, const View& out,
                const Epilogue& e) {
    product_into(ctx, x, layer, out, e);
    if (ctx.tape)
        ctx.tape->record([x, &layer, out, e](Context& c) { linear_backward(c, x, layer, out, e); });
}

// Sums of the product and of its adapters in f32, then the rest.
void adapted_into(Context& ctx, const View& x, const Linear& layer, const View& out,
                  const Epilogue& epilogue) {
    const Tensor z = ctx.make(DType::f32, {x.dim[0], layer.out});
    plain_into(ctx, x, layer, z, {});
    int64_t column = 0;
    for (const Block& block : layer.blocks) {
        const View part = z.slice(1, column, block.out);
        column += block.out;
        if (!block.adapter) continue;
        const Adapter& a = *block.adapter;
        const Tensor narrow = linear(ctx, x, a.down);
        linear_into(ctx, narrow, a.up, part, {.scale = &a.scale, .residual = part});
    }
    finish_into(ctx, z, out, epilogue);
}

}  // namespace

void product_into(Context& ctx, const View& x, const Linear& layer, const View& out,
                  const Epilogue& epilogue) {
    std::vector<GemmBlock> blocks;
    int64_t column = 0;
    for (const Block& block : layer.blocks) {
        assert(block.format == layer.blocks[0].format);
        blocks.push_back(
            {block.packed.get(), block.bias ? block.bias.as<float>() : nullptr, block.out, column});
        column += block.out;
    }
    GemmArgs args;
    args.a = x;
    args.c = out;
    args.in = layer.in;
    args.format = layer.blocks[0].format;
    args.blocks = blocks.data();
    args.block_count = int(blocks.size());
    args.activation = epilogue.activation;
    args.scale = epilogue.scale ? epilogue.scale->as<float>() : nullptr;
    args.residual = epilogue.residual;
    const QuantizedRows codes = quantize_rows(ctx, x, args.format);
    if (codes.codes) {
        args.a = codes.codes;
        args.a_scale = codes.scale.as<float>();
        args.a_sum = codes.sum.as<float>();
    }
    ctx.kernels.gemm(args, ctx.pool);
}

void linear_into(Context& ctx, const View& x, const Linear& layer, const View& out,
                 const Epilogue& epilogue) {
    assert(x.rank == 2 && x.dim[1] == layer.in && out.dim[0] == x.dim[0] &&
           out.dim[1] == layer.out);
    assert(!epilogue.residual || epilogue.residual.dtype == out.dtype);
    if (layer.outliers_from > 0) return llm_int8_into(ctx, x, layer, out, epilogue);
    const bool adapted = std::any_of(layer.blocks.begin(), layer.blocks.end(),
                                     [](const Block& b) { return b.adapter != nullptr; });
    (adapted ? adapted_into : plain_into)(ctx, x, layer, out, epilogue);
}

Tensor linear(Context& ctx, const View& x, const Linear& layer, const Epilogue& epilogue) {
    Tensor out = ctx.make(ctx.activations, {x.dim[0], layer.out});
    linear_into(ctx, x, layer, out, epilogue);
    return out;
}

}  // namespace internvl
