#include "ops/ops.h"

#include <cmath>
#include <cstring>
#include <vector>

#include "ops/tape.h"

namespace internvl {

// `x` is what the norm saw; y its result, which may lie where x lay.
static void norm_backward(Context& ctx, const View& x, const Norm& n, const View& y, bool in_place,
                          const View& dx) {
    const auto numbers = [](const View& v) { return v ? v.as<float>() : nullptr; };
    const Tensor moments = ctx.arena.get(DType::f32, {x.dim[0], 2});
    const NormBackwardArgs args{x,
                                ctx.tape->gradient(y),
                                dx,
                                !in_place,
                                n.weight.as<float>(),
                                n.epsilon,
                                numbers(ctx.tape->gradient(n.weight)),
                                numbers(ctx.tape->gradient(n.bias)),
                                moments.as<float>()};
    (n.bias ? ctx.kernels.layer_norm_backward : ctx.kernels.rms_norm_backward)(args, ctx.pool);
}

static void norm_into(Context& ctx, const View& x, const Norm& n, const View& y) {
    assert(x.rank == 2 && x.dim[1] == n.weight.dim[0]);
    const NormArgs args{x, y, n.weight.as<float>(), n.bias ? n.bias.as<float>() : nullptr,
                        n.epsilon};
    if (ctx.tape) {
        // The residual stream moves on in place.
        const Tensor seen = ctx.arena.get(x.dtype, {x.dim[0], x.dim[1]});
        ctx.kernels.copy(x, seen, ctx.pool);
        ctx.tape->record([seen, x, &n, y](Context& c) {
            norm_backward(c, seen, n, y, x.data == y.data, c.tape->gradient(x));
        });
    }
    (n.bias ? ctx.kernels.layer_norm : ctx.kernels.rms_norm)(args, ctx.pool);
}

Tensor norm(Context& ctx, const View& x, const Norm& n) {
    Tensor y = ctx.make(ctx.activations, {x.dim[0], x.dim[1]});
    norm_into(ctx, x, n, y);
    return y;
}

void norm_heads(Context& ctx, const View& x, const Norm& n) {
    assert(x.rank == 3 && x.stride[2] == 1);
    const int64_t width = n.weight.dim[0], parts = x.dim[1] * x.dim[2] / width;
    assert(parts == 1 || width == x.dim[2]);
    for (int64_t i = 0; i < parts; ++i) {
        View part(x.at(i * x.stride[1]), x.dtype, {x.dim[0], width});
        part.stride[0] = x.stride[0];
        norm_into(ctx, part, n, part);
    }
}

Tensor swiglu(Context& ctx, const View& gate_up) {
    assert(gate_up.rank == 2 && gate_up.dim[1] % 2 == 0);
    Tensor y = ctx.make(ctx.activations, {gate_up.dim[0], gate_up.dim[1] / 2});
    ctx.kernels.swiglu(gate_up, y, ctx.pool);
    if (ctx.tape)
        ctx.tape->record([gate_up, out = View(y)](Context& c) {
            c.kernels.swiglu_backward(gate_up, c.tape->gradient(out), c.tape->gradient(gate_up),
                                      c.pool);
        });
    return y;
}

void copy(Context& ctx, const View& from, const View& to) {
    assert(from.rank == to.rank);
    for (int d = 0; d < from.rank; ++d) assert(from.dim[d] == to.dim[d]);
    ctx.kernels.copy(from, to, ctx.pool);
    if (ctx.tape)
        ctx.tape->record([from, to](Context& c) {
            if (const View d = c.tape->gradient(to))
                c.kernels.hand_back(d, c.tape->gradient(from), c.pool);
        });
}

Tensor gather_rows(Context& ctx, const View& table, std::span<const int> ids) {
    Tensor out = ctx.make(ctx.activations, {int64_t(ids.size()), table.dim[1]});
    for (size_t i = 0; i < ids.size(); ++i) {
        assert(ids[i] >= 0 && ids[i] < table.dim[0]);
        ctx.kernels.copy(table.slice(0, ids[i], 1), out.slice(0, int64_t(i), 1), ctx.pool);
    }
    if (ctx.tape)
        ctx.tape->record([table, rows = View(out),
                          places = std::vector<int>(ids.begin(), ids.end())](Context& c) {
            const View dtable = c.tape->gradient(table), drows = c.tape->gradient(rows);
            for (size_t i = 0; dtable && i < places.size(); ++i)
                c.kernels.hand_back(drows.slice(0, int64_t(i), 1), dtable.slice(0, places[i], 1),
                                    c.pool);
        });
    return out;
}

RopeTable rope_table(Context& ctx, int64_t tokens, int64_t head_dim) {
    return {ctx.arena.get(DType::f32, {tokens, head_dim / 2}),
            ctx.arena.get(DType::f32, {tokens, head_dim / 2})};
}

void rope_rows(Context& ctx, const RopeTable& table, int64_t first,
               std::span<const int32_t> positions, const RopeFrequencies& f) {
    const int64_t half = table.cos.dim[1];
    assert(half == int64_t(f.inv_freq.size()));
    float* cos = table.cos.as<float>() + first * half;
    float* sin = table.sin.as<float>() + first * half;
    ctx.pool.parallel_for(int64_t(positions.size()), 16, [&](int64_t begin, int64_t end, int) {
        for (int64_t i = begin * half; i < end * half; ++i) {
            const float angle = float(positions[size_t(i / half)]) * f.inv_freq[size_t(i % half)];
            cos[i] = std::cos(angle) * f.magnitude;
            sin[i] = std::sin(angle) * f.magnitude;
        }
    });
}

void rope(Context& ctx, const View& x, const RopeTable& table) {
    assert(x.rank == 4 && x.dim[3] == 2 * table.cos.dim[1] && x.dim[0] == table.cos.dim[0]);
    ctx.kernels.rope({x, table.cos.as<float>(), table.sin.as<float>()}, ctx.pool);
    if (!ctx.tape) return;
    ctx.tape->record([x, table](Context& c) {  // turns back
        const Tensor sin = c.arena.get(DType::f32, {table.sin.dim[0], table.sin.dim[1]});
        for (int64_t i = 0; i < sin.size(); ++i) sin.as<float>()[i] = -table.sin.as<float>()[i];
        c.kernels.rope({c.tape->gradient(x), table.cos.as<float>(), sin.as<float>()}, c.pool);
    });
}

void cache_store(Context& ctx, const View& keys, const View& values, const CacheView& cache,
                 std::span<const int32_t> slots) {
    assert(keys.rank == 3 && keys.dim[0] == int64_t(slots.size()) && keys.dim[1] == cache.heads);
    assert(keys.dtype == values.dtype && (keys.dtype == cache.dtype || cache.dtype == DType::i8));
    ctx.kernels.cache_store({keys, values, cache, slots.data()}, ctx.pool);
}

// A view with its own dimensions and strides over the bytes of another, from element `offset` on.
static View restride(const View& base, int64_t offset, std::initializer_list<int64_t> dims,
                     std::initializer_list<int64_t> strides) {
    View v(base.at(offset), base.dtype, dims);
    int d = 0;
    for (const int64_t stride : strides) v.stride[d++] = stride;
    return v;
}

Tensor patches(Context& ctx, const View& pixels, int64_t patch) {
    assert(pixels.rank == 4 && pixels.contiguous() && pixels.dim[2] == pixels.dim[3] &&
           pixels.dim[3] % patch == 0);
    const int64_t tiles = pixels.dim[0], channels = pixels.dim[1], side = pixels.dim[3],
                  grid = side / patch;
    const int64_t width = channels * patch * patch;
    Tensor out = ctx.make(ctx.activations, {tiles * grid * grid, width});
    for (int64_t tile = 0; tile < tiles; ++tile)
        for (int64_t line = 0; line < channels * patch;
             ++line) {  // one pixel row of each patch, in one channel
            const int64_t channel = line / patch, y = line % patch;
            copy(ctx,
                 restride(pixels, ((tile * channels + channel) * side + y) * side,
                          {grid, grid, patch}, {patch * side, patch, 1}),
                 restride(out, tile * grid * grid * width + line * patch, {grid, grid, patch},
                          {grid * width, width, 1}));
        }
    return out;
}

Tensor pixel_shuffle(Context& ctx, const View& x, bool transposed) {
    assert(x.rank == 4 && x.dim[1] == x.dim[2] && x.dim[1] % 2 == 0);
    const int64_t tiles = x.dim[0], half = x.dim[1] / 2, width = x.dim[3];
    Tensor out = ctx.make(ctx.activations, {tiles * half * half, 4 * width});
    const int64_t row = half * 4 * width, column = 4 * width;
    for (int64_t n = 0; n < 4; ++n) {
        View from = x.slice(1, n / 2, x.dim[1] - 1).slice(2, n % 2, x.dim[2] - 1);
        from.dim[1] = from.dim[2] = half;
        from.stride[1] *= 2, from.stride[2] *= 2;
        copy(ctx, from,
             restride(out, n * width, {tiles, half, half, width},
                      {half * row, transposed ? column : row, transposed ? row : column, 1}));
    }
    return out;
}

Tensor cross_entropy(Context& ctx, const View& logits, std::span<const int32_t> targets,
                     std::span<const float> weights) {
    assert(logits.dtype == DType::f32 && logits.dim[0] == int64_t(targets.size()) &&
           targets.size() == weights.size());
    Tensor losses = ctx.make(DType::f32, {logits.dim[0]});
    ctx.kernels.cross_entropy(logits, targets.data(), losses.as<float>(), ctx.pool);
    if (ctx.tape)
        ctx.tape->record([logits, wanted = std::vector<int32_t>(targets.begin(), targets.end()),
                          by = std::vector<float>(weights.begin(), weights.end())](Context& c) {
            c.kernels.cross_entropy_backward(logits, wanted.data(), by.data(),
                                             c.tape->gradient(logits), c.pool);
        });
    return losses;
}

}  // namespace internvl
