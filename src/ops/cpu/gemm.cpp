// Matrix products: packed weights, tiles of 6 x 64, and what happens to a tile before it is stored.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/gemm.cpp"
#include "ops/cpu/target.h"
//
#include <hwy/foreach_target.h>

#include <algorithm>
#include <cstring>

#include "ops/cpu/finish.h"
#include "ops/cpu/quant_tile.h"
#include "ops/cpu/tile-inl.h"

HWY_BEFORE_NAMESPACE();
namespace internvl {
namespace HWY_NAMESPACE {

// finish.h, in fp32.
template <class C>
static void finish_row(const FinishArgs& f, int r) {
    const GemmArgs& g = f.gemm;
    const int64_t column = f.block.column + f.first, row = f.row + r;
    const float* sums = f.sums + r * panel_width;
    C* out = g.c.as<C>() + row * g.c.stride[0] + column;
    const C* residual =
        g.residual ? g.residual.as<C>() + row * g.residual.stride[0] + column : nullptr;
    const float* bias = f.block.bias ? f.block.bias + f.first : nullptr;
    const float* scale = g.scale ? g.scale + column : nullptr;
    const auto finish = [&](V v, int64_t i, auto get, auto put) {
        if (bias) v = hn::Add(v, get(bias + i));
        if (g.activation == Activation::gelu) v = gelu_of(v);
        if (scale) v = hn::Mul(v, get(scale + i));
        if (residual) v = hn::Add(v, get(residual + i));
        put(v, out + i);
    };
    int64_t i = 0;
    for (; i + lanes <= f.count; i += lanes)
        finish(
            load(sums + i), i, [](const auto* p) { return load(p); },
            [](V v, C* p) { store(v, p); });
    const int64_t left = f.count - i;
    if (left > 0)
        finish(
            load(sums + i), i, [left](const auto* p) { return load_part(p, left); },
            [left](V v, C* p) { store_part(v, p, left); });
}

template <class C>
static void finish(const FinishArgs& f) {
    for (int r = 0; r < f.rows; ++r) finish_row<C>(f, r);
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

// What suits the weights and the results of a product.
struct Steps {
    TileKernel plain;
    QuantTileKernel quantised;
    FinishTile finish;
};

// Bytes of one panel of 64 outputs.
static int64_t panel_bytes(const GemmArgs& g) {
    return packed_bytes(g.format, panel_width, g.in);
}

static const char* panel_start(const GemmArgs& g, const Panel& panel) {
    return static_cast<const char*>(panel.block->weight) +
           panel.first / panel_width * panel_bytes(g);
}

// Sums of `rows` rows from `row` on -> [rows, 64], plain weights or codes.
static void plain_sums(const GemmArgs& g, TileKernel tile, const void* weights, int64_t row,
                       int rows, int strips, float* sums) {
    const int64_t per_step = size_of(g.format.dtype) == 2 ? 2 : 1;
    const int64_t step_bytes = panel_width * per_step * size_of(g.format.dtype);
    int64_t offset[tile_strips];
    for (int s = 0; s < tile_strips; ++s) offset[s] = s * step_bytes / tile_strips;
    tile(rows, {g.a.at(row * g.a.stride[0]), g.a.stride[0], &weights, 1, g.in / per_step,
                step_bytes, offset, strips, sums, panel_width, false});
}

static void code_sums(const GemmArgs& g, QuantTileKernel tile, const char* panel, int64_t row,
                      int rows, int strips, float* sums) {
    const int64_t groups = g.format.kind == WeightFormat::int4 ? g.in / g.format.group : 1;
    tile(rows, {g.a.as<uint8_t>() + row * g.a.stride[0], g.a.stride[0], g.a_scale + row * groups,
                g.a_sum ? g.a_sum + row * groups : nullptr, panel, (g.in + 3) / 4, groups,
                g.format.group, strips, sums});
}

// Rows [begin, end) of one panel of outputs.
static void panel_rows(const GemmArgs& g, const Steps& steps, const Panel& panel, int64_t begin,
                       int64_t end) {
    const char* weights = panel_start(g, panel);
    const int64_t count = std::min(panel_width, panel.block->out - panel.first);
    const int strips = int((count + 15) / 16);
    HWY_ALIGN float sums[tile_rows * panel_width];
    for (int64_t row = begin; row < end; row += tile_rows) {
        const int rows = int(std::min<int64_t>(tile_rows, end - row));
        if (steps.quantised)
            code_sums(g, steps.quantised, weights, row, rows, strips, sums);
        else
            plain_sums(g, steps.plain, weights, row, rows, strips, sums);
        steps.finish({g, *panel.block, sums, row, panel.first, count, rows});
    }
}

// int4 with f32 rows: products and sums in f32, for those who compare, and for processors without
// products of bytes. Of each group, sum(code * a) first, then (that - zero * sum(a)) * scale.

// The codes of `lanes` outputs, 8 inputs each.
static auto load_codes(const char* codes, int64_t k, int64_t n) {
    return hn::LoadU(DU(),
                     reinterpret_cast<const uint32_t*>(codes + (k / 8 * panel_width + n) * 4));
}
static constexpr int code_shift(int i) {
    return i < 4 ? 8 * i : 8 * (i - 4) + 4;
}
static V code_of(hn::Vec<DU> eight, int i) {
    const auto code = hn::And(hn::ShiftRightSame(eight, code_shift(i)), hn::Set(DU(), 15));
    return hn::ConvertTo(D(), hn::BitCast(DI(), code));
}

// As f32, packed like f32 weights: [group][64].
static void widen_group(const char* header, int64_t group, float* to) {
    for (int64_t k = 0; k < group; k += 8)
        for (int64_t n = 0; n < panel_width; n += lanes) {
            const auto eight = load_codes(header + int4_group_header, k, n);
            for (int i = 0; i < 8; ++i) store(code_of(eight, i), to + (k + i) * panel_width + n);
        }
}

// The same sums as a tile of one row over widened codes finds, without writing these down. Codes
// stay where they stand in their words, so many times larger, and `a` is divided by that: both are
// exact. Only the last one would touch the sign.
static void group_row(const char* header, int64_t group, const float* a, float* sums) {
    constexpr int64_t vectors = panel_width / lanes;
    V sum[vectors];
    for (int64_t v = 0; v < vectors; ++v) sum[v] = hn::Zero(D());
    for (int64_t k = 0; k < group; k += 8) {
#pragma GCC unroll 8
        for (int i = 0; i < 8; ++i) {
            const int shift = i == 7 ? 0 : code_shift(i);
            const V by = hn::Set(D(), a[k + i] * (1.0f / float(1 << shift)));
            const auto mask = hn::Set(DU(), 15u << shift);
#pragma GCC unroll 16
            for (int64_t v = 0; v < vectors; ++v) {
                const auto eight = load_codes(header + int4_group_header, k, v * lanes);
                const auto code = i == 7 ? hn::ShiftRight<28>(eight) : hn::And(eight, mask);
                sum[v] = hn::MulAdd(by, hn::ConvertTo(D(), hn::BitCast(DI(), code)), sum[v]);
            }
        }
    }
    for (int64_t v = 0; v < vectors; ++v) store(sum[v], sums + v * lanes);
}

// What a group adds to a row.
static void add_group(const char* header, int64_t group, const float* a, const float* sums,
                      float* out, bool first) {
    const f16_t* scale = reinterpret_cast<const f16_t*>(header);
    const uint8_t* zero = reinterpret_cast<const uint8_t*>(header + 128);
    const hn::CappedTag<float, 8> part;  // groups are multiples of 8
    auto parts = hn::Zero(part);
    for (int64_t k = 0; k < group; k += int64_t(hn::Lanes(part)))
        parts = hn::Add(parts, hn::LoadU(part, a + k));
    const float total = hn::GetLane(hn::SumOfLanes(part, parts));
    const hn::Rebind<uint8_t, D> bytes;
    for (int64_t n = 0; n < panel_width; n += lanes) {
        const V z = hn::ConvertTo(D(), hn::PromoteTo(DI(), hn::LoadU(bytes, zero + n)));
        const V x = hn::NegMulAdd(z, hn::Set(D(), total), load(sums + n));
        const V before = first ? hn::Zero(D()) : load(out + n);
        store(hn::MulAdd(x, load(scale + n), before), out + n);
    }
}

static void widened_rows(const GemmArgs& g, const Steps& steps, const Panel& panel, int64_t begin,
                         int64_t end) {
    constexpr int64_t most_rows = 4 * tile_rows, most_group = 128, few = 3;
    HWY_ALIGN float out[most_rows * panel_width], sums[most_rows * panel_width],
        codes[most_group * panel_width];
    const int64_t group = g.format.group,
                  count = std::min(panel_width, panel.block->out - panel.first);
    int64_t offset[tile_strips];
    for (int s = 0; s < tile_strips; ++s) offset[s] = s * 16 * int64_t(sizeof(float));
    for (int64_t first = begin; first < end; first += most_rows) {
        const int64_t rows = std::min(most_rows, end - first);
        const auto row_at = [&](int64_t r, int64_t k) {
            return g.a.as<float>() + (first + r) * g.a.stride[0] + k;
        };
        const char* header = panel_start(g, panel);
        for (int64_t k = 0; k < g.in; k += group, header += int4_group_bytes(group)) {
            const void* const from = codes;
            if (rows > few) widen_group(header, group, codes);
            for (int64_t r = 0; r<rows; r += rows> few ? tile_rows : 1)
                if (rows > few)
                    steps.plain(int(std::min<int64_t>(tile_rows, rows - r)),
                                {row_at(r, k), g.a.stride[0], &from, 1, group,
                                 panel_width * int64_t(sizeof(float)), offset, tile_strips,
                                 sums + r * panel_width, panel_width, false});
                else
                    group_row(header, group, row_at(r, k), sums + r * panel_width);
            for (int64_t r = 0; r < rows; ++r)
                add_group(header, group, row_at(r, k), sums + r * panel_width,
                          out + r * panel_width, k == 0);
        }
        steps.finish({g, *panel.block, out, first, panel.first, count, int(rows)});
    }
}

static void gemm(const GemmArgs& g, const Steps& steps, ThreadPool& pool) {
    int64_t panels = 0;
    for (int b = 0; b < g.block_count; ++b)
        panels += (g.blocks[b].out + panel_width - 1) / panel_width;
    // A chunk of rows stays in the second-level cache while all panels pass by.
    const int64_t rows = g.a.dim[0], row_bytes = g.a.dim[1] * size_of(g.a.dtype);
    const int64_t chunk =
        std::max<int64_t>(tile_rows, (384 << 10) / row_bytes / tile_rows * tile_rows);
    const int64_t chunks = (rows + chunk - 1) / chunk;
    const bool widen = g.format.kind == WeightFormat::int4 && g.a.dtype == DType::f32;
    pool.parallel_for(chunks * panels, 1, [&](int64_t begin, int64_t end, int) {
        for (int64_t task = begin; task < end; ++task) {
            const int64_t first = task / panels * chunk, last = std::min(first + chunk, rows);
            const Panel panel = find_panel(g, task % panels);
            if (widen)
                widened_rows(g, steps, panel, first, last);
            else
                panel_rows(g, steps, panel, first, last);
        }
    });
}

static void gemm_with(const GemmArgs& g, const QuantTiles& quantised, bool pairs,
                      ThreadPool& pool) {
    Steps steps{};
    if (g.format.kind == WeightFormat::plain)
        steps.plain = tile_kernel(g.a.dtype, g.format.dtype, pairs);
    else if (g.a.dtype == DType::f32)
        steps.plain = tile_kernel(DType::f32, DType::f32, false);
    else
        steps.quantised = g.format.kind == WeightFormat::int8 ? quantised.int8 : quantised.int4;
    steps.finish = g.c.dtype == DType::f32 ? finish<float>
                   : pairs                 ? finish_bf16_pairs
                                           : finish<bf16_t>;
    gemm(g, steps, pool);
}

static void gemm_plain(const GemmArgs& g, ThreadPool& pool) {
    gemm_with(g, quant_tiles_plain, false, pool);
}
static void gemm_avx2(const GemmArgs& g, ThreadPool& pool) {
    gemm_with(g, quant_tiles_avx2, false, pool);
}
static void gemm_pairs(const GemmArgs& g, ThreadPool& pool) {
    gemm_with(g, quant_tiles_vnni, true, pool);
}

static void fill(Kernels& table, bool avx2, bool pairs) {
    table.gemm = pairs ? gemm_pairs : avx2 ? gemm_avx2 : gemm_plain;
}

}  // namespace HWY_NAMESPACE
}  // namespace internvl
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace internvl {

void fill_gemm(Kernels& table, Isa isa) {
    INTERNVL_PICK(isa, fill, table, isa >= Isa::avx2 && quant_tiles_avx2.int8,
                  isa == Isa::avx512_bf16 && tile_bf16_pairs);
}

}  // namespace internvl
#endif
