#pragma once
#include <cstddef>
#include <cstdint>

// Inside of the media folder: the one inner loop of a resize.
namespace internvl {

// Weights are whole multiples of 2^-22. A sum of products with bytes stays below 2^31.
constexpr int weight_bits = 22;

// out[i] = sum over t of weights[t] * rows[t * stride + i], rounded and clipped to 0..255, for i in
// [0, count). Integer arithmetic: every variant gives the same bits.
using BlendRows = void (*)(const uint8_t* rows, size_t stride, const int32_t* weights, int taps,
                           size_t count, uint8_t* out);

// The fastest variant for this machine, or for the one that INTERNVL_CPU asks for.
BlendRows select_blend_rows();

}  // namespace internvl
