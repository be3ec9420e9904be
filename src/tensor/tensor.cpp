#include "tensor/tensor.h"

#include <algorithm>
#include <cstdlib>
#include <new>

namespace internvl {

View::View(void* bytes, DType type, std::initializer_list<int64_t> shape)
    : View(bytes, type, std::span(shape.begin(), shape.size())) {}

View::View(void* bytes, DType type, std::span<const int64_t> shape)
    : data(bytes), dtype(type), rank(int(shape.size())) {
    assert(shape.size() <= 4);
    int64_t step = 1;
    for (int d = rank; d-- > 0;) {
        dim[d] = shape[d];
        stride[d] = step;
        step *= dim[d];
    }
}

int64_t View::size() const {
    int64_t n = rank > 0;
    for (int d = 0; d < rank; ++d) n *= dim[d];
    return n;
}

bool View::contiguous() const {
    int64_t step = 1;
    for (int d = rank; d-- > 0;) {
        if (dim[d] != 1 && stride[d] != step) return false;
        step *= dim[d];
    }
    return true;
}

std::string View::shape_text() const {
    std::string text = "[";
    for (int d = 0; d < rank; ++d) text += (d ? ", " : "") + std::to_string(dim[d]);
    return text + "]";
}

View View::slice(int d, int64_t begin, int64_t count) const {
    assert(d < rank && begin >= 0 && begin + count <= dim[d]);
    View part = *this;
    part.data = at(begin * stride[d]);
    part.dim[d] = count;
    return part;
}

View View::reshape(std::initializer_list<int64_t> shape) const {
    assert(contiguous());
    const View other(data, dtype, shape);
    assert(other.size() == size());
    return other;
}

Tensor make_tensor(DType dtype, std::initializer_list<int64_t> shape) {
    const View view(nullptr, dtype, shape);
    void* bytes =
        std::aligned_alloc(64, std::max<size_t>(64, (size_t(view.bytes()) + 63) / 64 * 64));
    if (!bytes) throw std::bad_alloc();
    View filled = view;
    filled.data = bytes;
    return {filled, std::shared_ptr<void>(bytes, std::free)};
}

}  // namespace internvl
