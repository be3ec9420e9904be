// Right-hand sides and left-hand sides of the products of backward. Only moves: nothing here gains
// from vectors of a certain width.
#include <algorithm>
#include <cstring>

#include "ops/cpu/target.h"

namespace internvl {

// Panels of 64 columns of x [inner, columns], each a stream over the rows; P rows of a column side
// by side (kernels.h).
template <class T>
static void pack_column_panel(const View& x, int64_t first, T* panel) {
    constexpr int64_t pairs = sizeof(T) == 2 ? 2 : 1;
    const int64_t inner = x.dim[0], columns = std::min(panel_width, x.dim[1] - first);
    for (int64_t k = 0; k < pad_inner(inner); ++k) {
        T* to = panel + k / pairs * pairs * panel_width + k % pairs;
        const T* from = k < inner ? x.as<T>() + k * x.stride[0] + first : nullptr;
        for (int64_t n = 0; n < panel_width; ++n)
            to[n * pairs] = from && n < columns ? from[n] : T{};
    }
}

template <class T>
static void pack_columns_of(const View& x, void* dst, ThreadPool& pool) {
    const int64_t size = panel_width * pad_inner(x.dim[0]);
    pool.parallel_for(
        (x.dim[1] + panel_width - 1) / panel_width, 1, [&](int64_t panel, int64_t, int) {
            pack_column_panel(x, panel * panel_width, static_cast<T*>(dst) + panel * size);
        });
}

static void pack_columns(const View& x, void* dst, ThreadPool& pool) {
    x.dtype == DType::f32 ? pack_columns_of<float>(x, dst, pool)
                          : pack_columns_of<uint16_t>(x, dst, pool);
}

// The panel of inputs [first, first + 64) of packed weights [out, in]: blocks of 64 x 64 turned.
template <class T>
static void turn_panel(const T* packed, int64_t out, int64_t in, int64_t first, T* panel) {
    constexpr int64_t pairs = sizeof(T) == 2 ? 2 : 1;
    const int64_t inputs = std::min(panel_width, in - first), inner = pad_inner(out);
    const auto place = [](int64_t inner_index, int64_t n) {
        return (inner_index / pairs * panel_width + n) * pairs + inner_index % pairs;
    };
    std::fill_n(panel, inner * panel_width, T{});
    for (int64_t begin = 0; begin < out; begin += panel_width) {
        const T* from = packed + begin * in;
        const int64_t outputs = std::min(panel_width, out - begin);
        for (int64_t i = 0; i < inputs; ++i)
            for (int64_t n = 0; n < outputs; ++n)
                panel[place(begin + n, i)] = from[place(first + i, n)];
    }
}

template <class T>
static void transpose_packed_of(const void* packed, int64_t out, int64_t in, void* dst,
                                ThreadPool& pool) {
    const int64_t size = panel_width * pad_inner(out);
    pool.parallel_for((in + panel_width - 1) / panel_width, 1, [&](int64_t panel, int64_t, int) {
        turn_panel(static_cast<const T*>(packed), out, in, panel * panel_width,
                   static_cast<T*>(dst) + panel * size);
    });
}

static void transpose_packed(const void* packed, DType type, int64_t out, int64_t in, void* dst,
                             ThreadPool& pool) {
    type == DType::f32 ? transpose_packed_of<float>(packed, out, in, dst, pool)
                       : transpose_packed_of<uint16_t>(packed, out, in, dst, pool);
}

// A few lines of `from` stay in the first-level cache while each column's values are written
// together.
template <class T>
static void transpose_columns(const View& from, const View& to, int64_t begin, int64_t end) {
    constexpr int64_t lines = 64;
    const int64_t rows = from.dim[0];
    for (int64_t first = 0; first < to.dim[1]; first += lines)
        for (int64_t c = begin; c < end; ++c) {
            const float* x = from.as<float>() + first * from.stride[0] + c;
            T* y = to.as<T>() + c * to.stride[0] + first;
            for (int64_t i = 0; i < std::min(lines, to.dim[1] - first); ++i) {
                const float value = first + i < rows ? x[i * from.stride[0]] : 0;
                if constexpr (sizeof(T) == 2)
                    y[i] = to_bf16(value);
                else
                    y[i] = value;
            }
        }
}

static void transpose(const View& from, const View& to, ThreadPool& pool) {
    const auto columns =
        to.dtype == DType::f32 ? transpose_columns<float> : transpose_columns<bf16_t>;
    pool.parallel_for(from.dim[1], 16,
                      [&](int64_t begin, int64_t end, int) { columns(from, to, begin, end); });
}

void fill_transpose(Kernels& table) {
    table.pack_columns = pack_columns;
    table.transpose_packed = transpose_packed;
    table.transpose = transpose;
}

}  // namespace internvl
