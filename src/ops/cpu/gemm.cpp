// Matrix products: packed weights, tiles of 6 x 64, and what happens to a tile before it is stored.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/gemm.cpp"
#include "ops/cpu/target.h"
//
#include <hwy/foreach_target.h>

#include <algorithm>
#include <cstring>

#include "ops/cpu/tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace internvl {
namespace HWY_NAMESPACE {

// One row of a finished tile: bias, activation, scale, residual, rounding. `count` columns from
// `column` of the output.
template <class C>
static void finish_row(const GemmArgs& g, const GemmBlock& block, const float* sums, int64_t row,
                       int64_t in_block, int64_t count) {
    const int64_t column = block.column + in_block;
    C* out = g.c.as<C>() + row * g.c.stride[0] + column;
    const C* residual =
        g.residual ? g.residual.as<C>() + row * g.residual.stride[0] + column : nullptr;
    const float* bias = block.bias ? block.bias + in_block : nullptr;
    const float* scale = g.scale ? g.scale + column : nullptr;
    const auto finish = [&](V v, int64_t i, auto get, auto put) {
        if (bias) v = hn::Add(v, get(bias + i));
        if (g.activation == Activation::gelu) v = gelu_of(v);
        if (scale) v = hn::Mul(v, get(scale + i));
        if (residual) v = hn::Add(v, get(residual + i));
        put(v, out + i);
    };
    int64_t i = 0;
    for (; i + lanes <= count; i += lanes)
        finish(
            load(sums + i), i, [](const auto* p) { return load(p); },
            [](V v, C* p) { store(v, p); });
    const int64_t left = count - i;
    if (left > 0)
        finish(
            load(sums + i), i, [left](const auto* p) { return load_part(p, left); },
            [left](V v, C* p) { store_part(v, p, left); });
}

struct Panel {
    const GemmBlock* block;
    int64_t first;  // output within the block
};

static Panel find_panel(const GemmArgs& g, int64_t panel) {
    const GemmBlock* block = g.blocks;
    for (int64_t n; panel >= (n = (block->out + panel_width - 1) / panel_width); ++block)
        panel -= n;
    return {block, panel * panel_width};
}

// Rows [begin, end) of one panel of outputs.
static void panel_rows(const GemmArgs& g, TileKernel tile, Panel panel, int64_t begin,
                       int64_t end) {
    const int64_t in = g.a.dim[1], per_step = size_of(g.weight_dtype) == 2 ? 2 : 1;
    const int64_t step_bytes = panel_width * per_step * size_of(g.weight_dtype),
                  steps = in / per_step;
    const void* weights = static_cast<const char*>(panel.block->weight) +
                          panel.first / panel_width * steps * step_bytes;
    const int64_t count = std::min(panel_width, panel.block->out - panel.first);
    int64_t offset[tile_strips];
    for (int s = 0; s < tile_strips; ++s) offset[s] = s * step_bytes / tile_strips;
    HWY_ALIGN float sums[tile_rows * panel_width];
    const auto finish = g.c.dtype == DType::f32 ? finish_row<float> : finish_row<bf16_t>;
    for (int64_t row = begin; row < end; row += tile_rows) {
        const int rows = int(std::min<int64_t>(tile_rows, end - row));
        tile(rows, {g.a.at(row * g.a.stride[0]), g.a.stride[0], &weights, 1, steps, step_bytes,
                    offset, int((count + 15) / 16), sums, panel_width, false});
        for (int r = 0; r < rows; ++r)
            finish(g, *panel.block, sums + r * panel_width, row + r, panel.first, count);
    }
}

static void gemm(const GemmArgs& g, TileKernel tile, ThreadPool& pool) {
    int64_t panels = 0;
    for (int b = 0; b < g.block_count; ++b)
        panels += (g.blocks[b].out + panel_width - 1) / panel_width;
    // A chunk of rows stays in the second-level cache while all panels pass by.
    const int64_t rows = g.a.dim[0], row_bytes = g.a.dim[1] * size_of(g.a.dtype);
    const int64_t chunk =
        std::max<int64_t>(tile_rows, (384 << 10) / row_bytes / tile_rows * tile_rows);
    const int64_t chunks = (rows + chunk - 1) / chunk;
    pool.parallel_for(chunks * panels, 1, [&](int64_t begin, int64_t end, int) {
        for (int64_t task = begin; task < end; ++task) {
            const int64_t first = task / panels * chunk;
            panel_rows(g, tile, find_panel(g, task % panels), first, std::min(first + chunk, rows));
        }
    });
}

static void gemm_plain(const GemmArgs& g, ThreadPool& pool) {
    gemm(g, tile_kernel(g.a.dtype, g.weight_dtype, false), pool);
}
static void gemm_pairs(const GemmArgs& g, ThreadPool& pool) {
    gemm(g, tile_kernel(g.a.dtype, g.weight_dtype, true), pool);
}

static void fill(Kernels& table, bool pairs) {
    table.gemm = pairs ? gemm_pairs : gemm_plain;
}

}  // namespace HWY_NAMESPACE
}  // namespace internvl
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace internvl {

int64_t packed_bytes(DType dtype, int64_t out, int64_t in) {
    return (out + panel_width - 1) / panel_width * panel_width * in * size_of(dtype);
}

template <class To>
static void write_value(float value, To* to) {
    if constexpr (sizeof(To) == 4)
        *to = value;
    else if constexpr (std::is_same_v<To, bf16_t>)
        *to = to_bf16(value);
    else
        *to = to_f16(value);
}

// Panels [begin, end). Same type: bits are moved; else by way of fp32.
template <class From, class To>
static void pack_panels(const View& w, void* dst, int64_t begin, int64_t end) {
    constexpr int64_t per_step = sizeof(To) == 2 ? 2 : 1;
    const int64_t out = w.dim[0], in = w.dim[1];
    for (int64_t panel = begin; panel < end; ++panel) {
        To* to = static_cast<To*>(dst) + panel * panel_width * in;
        // Step by step through 64 rows at once: each row is a stream of its own, each line of `to`
        // is written once.
        for (int64_t step = 0; step < in / per_step; ++step)
            for (int64_t n = 0; n < panel_width; ++n) {
                const int64_t row = panel * panel_width + n;
                To* place = to + (step * panel_width + n) * per_step;
                const From* from = w.as<From>() + row * w.stride[0] + step * per_step;
                for (int64_t p = 0; p < per_step; ++p) {
                    if (row >= out)
                        place[p] = To{};
                    else if constexpr (std::is_same_v<From, To>)
                        place[p] = from[p];
                    else
                        write_value(to_float(from[p]), place + p);
                }
            }
    }
}

template <class From>
static auto pack_from(DType to) {
    return to == DType::f32    ? pack_panels<From, float>
           : to == DType::bf16 ? pack_panels<From, bf16_t>
                               : pack_panels<From, f16_t>;
}

static void pack(const View& w, DType dtype, void* dst, ThreadPool& pool) {
    const auto panels = w.dtype == DType::f32    ? pack_from<float>(dtype)
                        : w.dtype == DType::bf16 ? pack_from<bf16_t>(dtype)
                                                 : pack_from<f16_t>(dtype);
    pool.parallel_for((w.dim[0] + panel_width - 1) / panel_width, 1,
                      [&](int64_t begin, int64_t end, int) { panels(w, dst, begin, end); });
}

void fill_gemm(Kernels& table, Isa isa) {
    table.pack = pack;
    INTERNVL_PICK(isa, fill, table, isa == Isa::avx512_bf16 && tile_bf16_pairs);
}

}  // namespace internvl
#endif
