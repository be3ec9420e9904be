#include "ops/tape.h"

#include <cstring>
#include <iterator>

namespace internvl {

Tensor Context::make(DType dtype, std::initializer_list<int64_t> shape) const {
    Tensor t = arena.get(dtype, shape);
    if (tape) tape->keep(t);
    return t;
}

void Tape::train(const View& value, const View& gradient) {
    assert(gradient.dtype == DType::f32 && gradient.contiguous() && value.contiguous());
    assert(gradient.size() == value.size());
    shadows_[value.at(0)] = {value.bytes(), size_of(value.dtype), nullptr, {gradient, nullptr}};
}

void Tape::keep(const Tensor& t) {
    assert(t.contiguous());
    shadows_[t.at(0)] = {t.bytes(), size_of(t.dtype), t.owner, {}};
    kept_.push_back(t.at(0));
}

View Tape::gradient(const View& v) {
    if (!v) return {};
    auto found = shadows_.upper_bound(v.at(0));
    if (found == shadows_.begin()) return {};
    --found;
    Shadow& shadow = found->second;
    const int64_t offset = v.at(0) - found->first;
    if (offset >= shadow.bytes) return {};
    if (!shadow.gradient) {
        shadow.gradient = arena_.get(DType::f32, {shadow.bytes / shadow.element});
        std::memset(shadow.gradient.data, 0, size_t(shadow.gradient.bytes()));
    }
    View g = v;
    g.dtype = DType::f32;
    g.data = shadow.gradient.at(offset / shadow.element);
    return g;
}

void Tape::record(Step step) {
    steps_.push_back({std::move(step), kept_.size()});
}

void Tape::forget(size_t kept) {
    for (; kept_.size() > kept; kept_.pop_back()) shadows_.erase(kept_.back());
}

void Tape::backward(Context& ctx) {
    assert(ctx.tape == this);
    while (!steps_.empty()) {
        const Step step = std::move(steps_.back().step);
        steps_.pop_back();
        step(ctx);
        forget(steps_.empty() ? 0 : steps_.back().kept);
    }
}

}  // namespace internvl
