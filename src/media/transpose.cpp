#include "media/transpose.h"

#include <algorithm>
#include <cstring>

namespace internvl {
namespace {

constexpr size_t side = 16;
using Bytes = uint8_t __attribute__((vector_size(side)));

// The compiler's portable shuffle: punpck on x86, zip on ARM.
Bytes zip_low(Bytes a, Bytes b) {
    return __builtin_shufflevector(a, b, 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
}
Bytes zip_high(Bytes a, Bytes b) {
    return __builtin_shufflevector(a, b, 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15,
                                   31);
}

// Zipping row i with row i + 8 is a rotation of the 8-bit index (row, column) by one; four of them
// exchange row and column.
void transpose_block(const uint8_t* in, size_t in_stride, uint8_t* out, size_t out_stride) {
    Bytes rows[side], zipped[side];
    for (size_t i = 0; i < side; ++i) std::memcpy(&rows[i], in + i * in_stride, side);
    for (int round = 0; round < 4; ++round) {
        for (size_t i = 0; i < side / 2; ++i) {
            zipped[2 * i] = zip_low(rows[i], rows[i + side / 2]);
            zipped[2 * i + 1] = zip_high(rows[i], rows[i + side / 2]);
        }
        std::copy(zipped, zipped + side, rows);
    }
    for (size_t i = 0; i < side; ++i) std::memcpy(out + i * out_stride, &rows[i], side);
}

}  // namespace

void transpose_bytes(const uint8_t* in, size_t in_stride, size_t rows, size_t columns, uint8_t* out,
                     size_t out_stride) {
    if (rows < side || columns < side) {
        for (size_t r = 0; r < rows; ++r)
            for (size_t c = 0; c < columns; ++c) out[c * out_stride + r] = in[r * in_stride + c];
        return;
    }
    // The last block of each direction moves back to end with the data.
    for (size_t r = 0; r < rows; r += side)
        for (size_t c = 0; c < columns; c += side) {
            const size_t row = std::min(r, rows - side), column = std::min(c, columns - side);
            transpose_block(in + row * in_stride + column, in_stride,
                            out + column * out_stride + row, out_stride);
        }
}

}  // namespace internvl
