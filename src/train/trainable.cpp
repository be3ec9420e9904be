#include "train/trainable.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/error.h"

namespace internvl {

static bool is_trained(const Parameter& p, const Frozen& frozen, int64_t vision_layers) {
    if (p.kind == Parameter::adapter) return true;
    if (p.part == Part::language) return !frozen.language;
    if (p.part == Part::projector) return !frozen.projector;
    const int64_t from = frozen.unfreeze_vision_layers;
    const int64_t first = from < 0 ? vision_layers + from : from;
    return !frozen.vision || (from != 0 && p.layer >= 0 && p.layer >= first);
}

// A tensor of the checkpoint as f32 [rows, columns].
static Tensor read_values(Context& ctx, const Checkpoint& checkpoint, const std::string& name) {
    const TensorEntry* const e = checkpoint.find(name);
    if (!e) throw Error("tensor is missing", name, "", checkpoint.where());
    const int64_t count = int64_t(e->bytes.size()) / size_of(e->dtype);
    const int64_t rows = e->shape.size() < 2 ? 1 : e->shape[0];
    // The file need not align its elements.
    const Tensor filed = make_tensor(e->dtype, {rows, count / rows});
    std::memcpy(filed.data, e->bytes.data(), e->bytes.size());
    const Tensor values = make_tensor(DType::f32, {rows, count / rows});
    ctx.kernels.copy(filed, values, ctx.pool);
    checkpoint.drop(*e);
    return values;
}

static void check_plain(const Parameter& p) {
    if (p.block && p.block->format.kind != WeightFormat::plain)
        throw Error("weights in codes cannot be trained", "plain ones", "int8 or int4", p.name);
}

Trainables::Trainables(Context& ctx, InternVL& model, const Checkpoint& checkpoint,
                       const Frozen& frozen)
    : model_(model), vision_from_(int64_t(model.vision.layers.size())) {
    const int64_t layers = vision_from_;
    for (const Parameter& p : parameters_of(model)) {
        check_plain(p);  // gradients pass frozen weights, too
        if (!is_trained(p, frozen, layers)) continue;
        if (p.part == Part::vision) vision_from_ = std::min(vision_from_, p.layer);
        if (p.part == Part::projector) projector_ = true;
        add(ctx, p, checkpoint);
    }
}

void Trainables::add(Context& ctx, const Parameter& p, const Checkpoint& checkpoint) {
    const auto same = std::find_if(all_.begin(), all_.end(),
                                   [&](const Trainable& t) { return t.name == p.name; });
    if (same != all_.end()) {
        same->uses.push_back(p);
        return;
    }
    Trainable t{p.name, {p}, {}, {}};
    t.value = p.kind == Parameter::adapter ? *p.tensor : read_values(ctx, checkpoint, p.name);
    t.gradient = make_tensor(DType::f32, {t.value.dim[0], t.value.dim[1]});
    std::memset(t.gradient.data, 0, size_t(t.gradient.bytes()));
    // The model reads the sum of the class row and of the first position: they share a gradient.
    if (p.kind == Parameter::positions)
        all_.back().gradient = {t.gradient.slice(1, 0, p.vision->first_row.dim[1]),
                                t.gradient.owner};
    if (p.kind == Parameter::table) *p.tensor = t.value;
    all_.push_back(std::move(t));
}

Trainable& Trainables::at(const std::string& name) {
    for (Trainable& t : all_)
        if (t.name == name) return t;
    throw Error("tensor is not trained", "", name);
}

int64_t Trainables::count() const {
    int64_t numbers = 0;
    for (const Trainable& t : all_) numbers += t.value.size();
    return numbers;
}

// Where the model reads a tensor, and the part of its gradient that belongs there.
static std::pair<View, View> place_of(const Parameter& p, const View& gradient) {
    if (p.block)
        return {View(p.block->packed.get(), p.block->format.dtype, {p.block->out, p.block->in}),
                gradient};
    if (p.tensor) return {*p.tensor, gradient};
    const int64_t width = p.vision->first_row.dim[1];
    if (p.kind == Parameter::class_row) return {p.vision->first_row, gradient};
    return {p.vision->positions, gradient.slice(1, width, gradient.size() - width)};
}

void Trainables::known_to(Tape& tape) {
    for (const Trainable& t : all_)
        for (const Parameter& p : t.uses) {
            const auto [value, gradient] = place_of(p, t.gradient);
            tape.train(value, gradient);
        }
}

void Trainables::clear_gradients() {
    for (Trainable& t : all_) std::memset(t.gradient.data, 0, size_t(t.gradient.bytes()));
}

// class row + first position -> first_row; the other positions as they are.
static void write_positions(Context& ctx, const Tensor& class_row, const Tensor& positions,
                            const Vision& vision) {
    const int64_t width = class_row.size(), rows = vision.positions.dim[0];
    const Tensor sum = make_tensor(DType::f32, {1, width});
    for (int64_t i = 0; i < width; ++i)
        sum.as<float>()[i] = class_row.as<float>()[i] + positions.as<float>()[i];
    ctx.kernels.copy(sum, vision.first_row, ctx.pool);
    ctx.kernels.copy(positions.reshape({rows + 1, width}).slice(0, 1, rows), vision.positions,
                     ctx.pool);
}

void Trainables::write_back(Context& ctx) {
    for (size_t i = 0; i < all_.size(); ++i)
        for (const Parameter& p : all_[i].uses) {
            const Tensor& value = all_[i].value;
            if (p.block)
                ctx.kernels.pack(value, p.block->format, p.block->packed.get(), ctx.pool);
            else if (p.kind == Parameter::vector)
                ctx.kernels.copy(value, p.tensor->reshape({1, value.size()}), ctx.pool);
            else if (p.kind == Parameter::positions)
                write_positions(ctx, all_[i - 1].value, value, *p.vision);
        }
}

}  // namespace internvl
