#include "model/vision.h"

#include <algorithm>
#include <cmath>

#include "model/watch.h"
#include "ops/tape.h"

namespace internvl {

// [tiles * (1 + patches), width]: for each tile the class row, then its patches, positions added
// (spec 3.3).
static Tensor embed(Context& ctx, const Vision& vision, const View& pixels) {
    const int64_t tiles = pixels.dim[0], count = vision.positions.dim[0],
                  width = vision.patch_embedding.out;
    const Tensor flat = patches(ctx, pixels, vision.patch);
    Tensor x = ctx.make(ctx.activations, {tiles * (count + 1), width});
    for (int64_t tile = 0; tile < tiles; ++tile) {
        const View rows = x.slice(0, tile * (count + 1), count + 1);
        copy(ctx, vision.first_row, rows.slice(0, 0, 1));
        linear_into(ctx, flat.slice(0, tile * count, count), vision.patch_embedding,
                    rows.slice(0, 1, count), {.residual = vision.positions});
    }
    return x;
}

// x [rows, heads, head_dim] as [rows, heads, 1, head_dim]: one query head to each key head.
static View one_each(View x) {
    x.rank = 4;
    x.dim[3] = x.dim[2], x.stride[3] = x.stride[2];
    x.dim[2] = 1, x.stride[2] = x.dim[3];
    return x;
}

static std::vector<AttentionSpan> equal_runs(int64_t rows, int64_t parts) {
    std::vector<AttentionSpan> runs;
    for (int64_t p = 0, each = rows / parts; p < parts; ++p)
        runs.push_back({p * each, each, each, nullptr});
    return runs;
}

// x [tiles * rows, width], changed in place.
static void run_layer(Context& ctx, const VisionLayer& layer, int64_t heads, int64_t tiles,
                      const View& x) {
    const int64_t rows = x.dim[0], width = x.dim[1], head_dim = width / heads;
    {
        const Tensor qkv = linear(ctx, norm(ctx, x, layer.attention_norm), layer.qkv);
        const View parts = qkv.reshape({rows, 3, heads, head_dim});
        const auto part = [&](int64_t n) {
            View p = parts.slice(1, n, 1);  // [rows, 1, heads, head_dim] -> [rows, heads, head_dim]
            p.rank = 3;
            for (int d = 1; d < 3; ++d) p.dim[d] = p.dim[d + 1], p.stride[d] = p.stride[d + 1];
            return p;
        };
        if (layer.q_norm.weight) {
            norm_heads(ctx, part(0), layer.q_norm);
            norm_heads(ctx, part(1), layer.k_norm);
        }
        const Tensor mixed = attention_dense(ctx, one_each(part(0)), part(1), part(2),
                                             equal_runs(rows, tiles), false);
        linear_into(ctx, mixed, layer.out, x, {.scale = &layer.attention_scale, .residual = x});
    }
    const Tensor hidden =
        linear(ctx, norm(ctx, x, layer.mlp_norm), layer.up, {.activation = Activation::gelu});
    linear_into(ctx, hidden, layer.down, x, {.scale = &layer.mlp_scale, .residual = x});
}

// The patches of each tile as a square, the class row left out: [tiles, side, side, width].
static View patch_grid(const View& x, int64_t tiles, int64_t count) {
    const int64_t side = int64_t(std::lround(std::sqrt(double(count)))), width = x.dim[1];
    View grid(x.at(width), x.dtype, {tiles, side, side, width});
    grid.stride[0] = (count + 1) * width;
    return grid;
}

static View by_tile(const VisionRun& run) {
    return run.x.reshape({run.tiles, run.x.dim[0] / run.tiles, run.x.dim[1]});
}

VisionRun Vision::begin(Context& ctx, const View& pixels) const {
    VisionRun run{embed(ctx, *this, pixels), pixels.dim[0]};
    watch(ctx, "vision/embeddings", by_tile(run));
    return run;
}

void Vision::advance(Context& ctx, VisionRun& run, int64_t tiles) const {
    ctx.stop_if_cancelled();
    const int64_t rows = run.x.dim[0] / run.tiles, count = std::min(tiles, run.tiles - run.done);
    const View x = run.x.slice(0, run.done * rows, count * rows);
    checkpointed(ctx, x, [this, x, count, n = run.layer](Context& c) {
        run_layer(c, layers[n], heads, count, x);
    });
    run.done += count;
    if (run.done < run.tiles) return;
    watch(ctx, "vision/block", run.layer++, by_tile(run));
    run.done = 0;
}

Tensor Vision::finish(Context& ctx, const VisionRun& run) const {
    watch(ctx, "vision/last", by_tile(run));
    const Tensor shuffled =
        pixel_shuffle(ctx, patch_grid(run.x, run.tiles, positions.dim[0]), transposed_shuffle);
    watch(ctx, "vision/shuffled",
          shuffled.reshape({run.tiles, shuffled.dim[0] / run.tiles, shuffled.dim[1]}));
    const Tensor hidden = linear(ctx, norm(ctx, shuffled, projector_norm), projector_in,
                                 {.activation = Activation::gelu});
    Tensor rows = linear(ctx, hidden, projector_out);
    watch(ctx, "vision/projected", rows.reshape({run.tiles, rows.dim[0] / run.tiles, rows.dim[1]}));
    return rows;
}

Tensor Vision::forward(Context& ctx, const View& pixels) const {
    VisionRun run = begin(ctx, pixels);
    while (!passed(run)) advance(ctx, run, run.tiles);
    return finish(ctx, run);
}

}  // namespace internvl
