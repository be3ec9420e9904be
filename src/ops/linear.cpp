#include "ops/linear.h"

namespace internvl {

void linear_into(Context& ctx, const View& x, const Linear& layer, const View& out,
                 const Epilogue& epilogue) {
    assert(x.rank == 2 && x.dim[1] == layer.in && out.dim[0] == x.dim[0] &&
           out.dim[1] == layer.out);
    assert(!epilogue.residual || epilogue.residual.dtype == out.dtype);
    std::vector<GemmBlock> blocks;
    int64_t column = 0;
    for (const Block& block : layer.blocks) {
        assert(block.dtype == layer.blocks[0].dtype);
        blocks.push_back(
            {block.packed.get(), block.bias ? block.bias.as<float>() : nullptr, block.out, column});
        column += block.out;
    }
    GemmArgs args;
    args.a = x;
    args.c = out;
    args.weight_dtype = layer.blocks[0].dtype;
    args.blocks = blocks.data();
    args.block_count = int(blocks.size());
    args.activation = epilogue.activation;
    args.scale = epilogue.scale ? epilogue.scale->as<float>() : nullptr;
    args.residual = epilogue.residual;
    ctx.kernels.gemm(args, ctx.pool);
}

Tensor linear(Context& ctx, const View& x, const Linear& layer, const Epilogue& epilogue) {
    Tensor out = ctx.arena.get(ctx.activations, {x.dim[0], layer.out});
    linear_into(ctx, x, layer, out, epilogue);
    return out;
}

}  // namespace internvl
