#include "ops/linear_backward.h"

#include <cstring>

#include "ops/tape.h"

namespace internvl {

static View weight_gradient(Tape& tape, const Block& b) {
    return tape.gradient(View(b.packed.get(), b.format.dtype, {b.out, b.in}));
}

static float* numbers(const View& v) {
    return v ? v.as<float>() : nullptr;
}

static float* bias_gradient(Tape& tape, const Block& b) {
    return numbers(tape.gradient(b.bias));
}

// Rows as the left side of a product over their columns, with the columns in whole pairs.
static Tensor left_side(Context& ctx, const View& rows, DType dtype) {
    const int64_t count = rows.dim[1], padded = pad_inner(count);
    if (rows.dtype == dtype && count == padded) return {rows, nullptr};
    const Tensor left = ctx.arena.get(dtype, {rows.dim[0], padded});
    ctx.kernels.copy(rows, left.slice(1, 0, count), ctx.pool);
    for (int64_t r = 0; r < rows.dim[0]; ++r)
        std::memset(left.at(r * padded + count), 0, size_t((padded - count) * size_of(dtype)));
    return left;
}

// c += a * packed^T; c f32.
static void add_product(Context& ctx, const View& a, const void* packed, DType dtype,
                        const View& c) {
    const GemmBlock block{packed, nullptr, c.dim[1], 0};
    GemmArgs args;
    args.a = a;
    args.c = c;
    args.in = a.dim[1];
    args.format = dtype;
    args.blocks = &block;
    args.block_count = 1;
    args.residual = c;
    ctx.kernels.gemm(args, ctx.pool);
}

// dx += dz * W
static void add_input_gradient(Context& ctx, const View& dz, const Block& b, const View& dx) {
    assert(b.format.kind == WeightFormat::plain);
    const DType dtype = b.format.dtype;
    const Tensor turned = ctx.arena.get(DType::u8, {packed_bytes(dtype, b.in, pad_inner(b.out))});
    ctx.kernels.transpose_packed(b.packed.get(), dtype, b.out, b.in, turned.data, ctx.pool);
    add_product(ctx, left_side(ctx, dz, ctx.activations), turned.data, dtype, dx);
}

// dw += dz^T * x
static void add_weight_gradient(Context& ctx, const View& dz, const View& x, const View& dw) {
    const int64_t rows = pad_inner(x.dim[0]), in = x.dim[1];
    const Tensor left = ctx.arena.get(x.dtype, {dz.dim[1], rows});
    ctx.kernels.transpose(dz, left, ctx.pool);
    const Tensor panels = ctx.arena.get(DType::u8, {packed_bytes(x.dtype, in, rows)});
    ctx.kernels.pack_columns(x, panels.data, ctx.pool);
    add_product(ctx, left, panels.data, x.dtype, dw);
}

// The residual takes what the sum has; in place there is nothing to do.
static void hand_to_residual(Context& ctx, const View& dout, const View& out,
                             const Epilogue& epilogue) {
    if (epilogue.residual && epilogue.residual.data != out.data)
        ctx.kernels.hand_back(dout, ctx.tape->gradient(epilogue.residual), ctx.pool);
}

void finish_backward(Context& ctx, const View& z, const View& out, const Epilogue& e) {
    const View dout = ctx.tape->gradient(out), dz = ctx.tape->gradient(z);
    float* const dscale = e.scale ? numbers(ctx.tape->gradient(*e.scale)) : nullptr;
    ctx.kernels.finish_rows_backward(
        {z, dout, dz, e.activation, e.scale ? e.scale->as<float>() : nullptr, dscale}, ctx.pool);
    hand_to_residual(ctx, dout, out, e);
}

// Gradients of the sums: those of the result, unless an activation or a scale lies between.
static Tensor gradient_of_sums(Context& ctx, const View& x, const Linear& layer, const View& dout,
                               const Epilogue& e) {
    if (e.activation == Activation::none && !e.scale) return {dout, nullptr};
    float* const dscale = e.scale ? numbers(ctx.tape->gradient(*e.scale)) : nullptr;
    Tensor z;
    if (e.activation != Activation::none || dscale) {
        z = ctx.arena.get(DType::f32, {x.dim[0], layer.out});
        product_into(ctx, x, layer, z, {});
    }
    Tensor dz = ctx.arena.get(DType::f32, {x.dim[0], layer.out});
    ctx.kernels.finish_rows_backward(
        {z, dout, dz, e.activation, e.scale ? e.scale->as<float>() : nullptr, dscale}, ctx.pool);
    return dz;
}

void linear_backward(Context& ctx, const View& x, const Linear& layer, const View& out,
                     const Epilogue& epilogue) {
    Tape& tape = *ctx.tape;
    const View dout = tape.gradient(out), dx = tape.gradient(x);
    assert(dout);
    const Tensor dz = gradient_of_sums(ctx, x, layer, dout, epilogue);
    int64_t column = 0;
    for (const Block& block : layer.blocks) {
        const View part = dz.slice(1, column, block.out);
        column += block.out;
        if (dx) add_input_gradient(ctx, part, block, dx);
        if (const View dw = weight_gradient(tape, block)) add_weight_gradient(ctx, part, x, dw);
        if (float* const sums = bias_gradient(tape, block))
            ctx.kernels.add_column_sums(part, sums, ctx.pool);
    }
    hand_to_residual(ctx, dout, out, epilogue);
}

}  // namespace internvl
