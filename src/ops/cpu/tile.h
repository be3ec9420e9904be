#pragma once
// The one inner loop of all products: a tile of up to 6 rows x 64 columns over a packed right-hand
// side. The matrix product, and both products of attention, call it; so does a single row, so that
// prompt and generated tokens agree.

#include <cstddef>
#include <cstdint>

namespace internvl {

constexpr int tile_rows = 6;
constexpr int tile_strips = 4;  // of 16 columns

// A strip is 16 columns of the right-hand side: at each step over the inner dimension (1 value of
// f32, a pair of a 16-bit type) it holds 16 values or pairs, contiguous. The inner dimension may
// lie in several segments.
struct TileArgs {
    const void* a;     // row 0
    int64_t a_stride;  // between rows, in elements of a
    const void* const* segments;
    int64_t segment_count;
    int64_t segment_steps;
    int64_t step_bytes;           // between the steps of a strip
    const int64_t* strip_offset;  // [strips]: bytes from a segment's start
    int strips;
    float* out;  // [rows, out_stride]
    int64_t out_stride;
    bool accumulate;  // add to `out` instead of starting from zero
};

// rows in 1..6. The bits of a row depend on its own `a` and the right-hand side only.
using TileKernel = void (*)(int rows, const TileArgs&);

// bf16 x bf16 by the pair instruction of AVX512-BF16; null where the compiler has no such target.
extern const TileKernel tile_bf16_pairs;

// For measuring the peak: pair products from registers alone, started from memory[0..11]; returns
// the operations done.
double multiply_pairs(int64_t rounds, float* memory);

}  // namespace internvl
