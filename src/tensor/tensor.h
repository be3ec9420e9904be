#pragma once
#include <cassert>
#include <cstddef>
#include <initializer_list>
#include <memory>
#include <span>
#include <string>

#include "tensor/dtype.h"

namespace internvl {

// A shape over somebody else's bytes. Strides are in elements. Up to four dimensions; a View of
// rank 0 is "absent".
struct View {
    void* data = nullptr;
    DType dtype = DType::f32;
    int rank = 0;
    int64_t dim[4] = {0, 0, 0, 0};
    int64_t stride[4] = {0, 0, 0, 0};

    View() = default;
    View(void* data, DType dtype, std::initializer_list<int64_t> shape);  // contiguous
    View(void* data, DType dtype, std::span<const int64_t> shape);

    explicit operator bool() const { return rank > 0; }
    int64_t size() const;  // elements
    int64_t bytes() const { return size() * size_of(dtype); }
    bool contiguous() const;
    std::string shape_text() const;  // "[3, 448, 448]"

    template <class T>
    T* as() const {
        return static_cast<T*>(data);
    }
    std::byte* at(int64_t element) const {
        return static_cast<std::byte*>(data) + element * size_of(dtype);
    }

    // Part [begin, begin + count) of dimension d.
    View slice(int d, int64_t begin, int64_t count) const;
    // The same elements under another shape; only for contiguous views.
    View reshape(std::initializer_list<int64_t> shape) const;
};

// A View that keeps its bytes alive. Copies share the bytes.
struct Tensor : View {
    std::shared_ptr<void> owner;

    Tensor() = default;
    Tensor(const View& view, std::shared_ptr<void> keeper) : View(view), owner(std::move(keeper)) {}
};

// Fresh memory, aligned to 64 bytes, contents undefined.
Tensor make_tensor(DType dtype, std::initializer_list<int64_t> shape);

}  // namespace internvl
