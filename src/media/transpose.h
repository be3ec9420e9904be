#pragma once
#include <cstddef>
#include <cstdint>

namespace internvl {

// out[c * out_stride + r] = in[r * in_stride + c] for r in [0, rows) and c in [0, columns); strides
// in bytes. Touches nothing outside of those bytes.
void transpose_bytes(const uint8_t* in, size_t in_stride, size_t rows, size_t columns, uint8_t* out,
                     size_t out_stride);

}  // namespace internvl
