#pragma once
// The inner loop of products with quantised weights: a tile of up to 6 rows x 64 columns, like
// tile.h. Integer sums are exact, so every instruction set finds the same ones.
//
// A panel is one stream. int8: float scale[64], int32_t sum[64] (128 times the sum of the column's
// codes), then for each 4 inputs (missing ones zero) the codes [64][4], signed. int4: for each
// group f16 scale[64], uint8_t zero[64], then for each 8 inputs [64][4] bytes, the codes of inputs
// i and i+4 in the lower and upper half: weight = (code - zero) * scale.

#include <cstddef>
#include <cstdint>

#include "ops/cpu/tile.h"

namespace internvl {

constexpr int64_t int8_header = 64 * 8;        // bytes before the codes of a panel
constexpr int64_t int4_group_header = 64 * 3;  // bytes before the codes of a group
constexpr int64_t int4_group_bytes(int64_t group) {
    return int4_group_header + group / 8 * 256;
}

struct QuantTileArgs {
    const uint8_t* a;  // codes of row 0; int8: q + 128, int4: q as a signed byte
    int64_t a_stride;
    const float* a_scale;  // [rows, groups]; int8: one for each row
    const float* a_sum;    // [rows, groups] sums of codes; int4 only
    const char* panel;
    int64_t steps;   // int8: inputs / 4, rounded up
    int64_t groups;  // int4
    int64_t group;   // int4: inputs of each
    int strips;      // of 16 columns
    float* out;      // [rows, 64]
};

// rows in 1..6.
using QuantTileKernel = void (*)(int rows, const QuantTileArgs&);

struct QuantTiles {
    QuantTileKernel int8, int4;
};
extern const QuantTiles quant_tiles_plain;
// Null where the compiler has no such target. The second needs AVX512-VNNI.
extern const QuantTiles quant_tiles_avx2, quant_tiles_vnni;

// For measuring the peak: byte products from registers alone, started from memory[0..11]; returns
// the operations done.
double multiply_quads(int64_t rounds, float* memory);

}  // namespace internvl
