#include "model/weights.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>

#include "base/error.h"
#include "model/lora.h"
#include "ops/llm_int8.h"

namespace internvl {

// Address space for the worst case (16-bit files packed as fp32, every panel padded, codes with the
// smallest groups, every part on a line of its own).
static int64_t most_bytes(const Checkpoint& checkpoint) {
    int64_t bytes = 0;
    for (const TensorEntry& e : checkpoint.entries())
        bytes += 3 * 64 + 2 * int64_t(e.bytes.size()) +
                 (e.shape.size() < 2
                      ? 0
                      : packed_bytes(DType::f32, 64,
                                     std::max(int64_t(e.bytes.size()) / e.shape[0], e.shape[0])));
    return bytes;
}

WeightLoader::WeightLoader(Context& ctx, Checkpoint& checkpoint, const ComputeTypes& types,
                           const QuantPolicy& filed, std::optional<WeightStore> store,
                           std::function<void(double)> on_share)
    : ctx_(ctx),
      checkpoint_(checkpoint),
      types_(types),
      filed_(filed),
      store_(store ? std::move(*store) : WeightStore(most_bytes(checkpoint))),
      on_share_(std::move(on_share)) {
    for (const TensorEntry& e : checkpoint.entries()) all_ += e.bytes.size();
}

const TensorEntry& WeightLoader::entry(const std::string& name) const {
    const TensorEntry* e = checkpoint_.find(name);
    if (!e) throw Error("tensor is missing", name, "", checkpoint_.where());
    if (e->dtype != DType::f32 && e->dtype != DType::bf16 && e->dtype != DType::f16)
        throw Error("tensor type is not supported", "F32, BF16 or F16", dtype_name(e->dtype), name);
    return *e;
}

// The tensor in the mapped file, or a copy where the file does not align its elements.
Tensor WeightLoader::read(const TensorEntry& e, int64_t rows, int64_t width) const {
    const View filed(const_cast<std::byte*>(e.bytes.data()), e.dtype, {rows, width});
    if (reinterpret_cast<uintptr_t>(filed.data) % size_t(size_of(e.dtype)) == 0)
        return {filed, nullptr};
    Tensor aligned = make_tensor(e.dtype, {rows, width});
    std::memcpy(aligned.data, filed.data, e.bytes.size());
    return aligned;
}

static int64_t elements(const TensorEntry& e) {
    return int64_t(e.bytes.size()) / size_of(e.dtype);
}

// Blocks of one product share a type.
DType WeightLoader::common_type(const LinearNames& names) const {
    std::optional<DType> dtype = types_.weights;
    for (const std::string& name : names.weights) {
        if (types_.weights || find_codes(checkpoint_, name)) continue;
        const DType filed = entry(name).dtype;
        dtype = dtype.value_or(filed) == filed ? filed : DType::f32;
    }
    return dtype.value_or(DType::f32);
}

Tensor WeightLoader::weight(const std::string& name) const {
    const TensorEntry& e = entry(name);
    const int64_t out = e.shape[0], in = elements(e) / out;  // a convolution kernel is flattened
    const AdapterEntries a = find_adapter(checkpoint_, name);
    if (!a.down || !a.up) return read(e, out, in);
    const int64_t rank = a.down->shape[0];
    return merge_adapter(read(e, out, in), read(entry(a.down->name), rank, in),
                         read(entry(a.up->name), out, rank));
}

Block WeightLoader::block(const std::string& name, Role role, DType dtype) {
    Block block;
    block.name = name;
    const FiledCodes codes = find_codes(checkpoint_, name);
    const TensorEntry* const plain = codes ? nullptr : &entry(name);
    block.out = plain ? plain->shape[0] : codes.out;
    block.in = plain ? elements(*plain) / block.out : codes.in;
    const bool left_out = plain && filed_.of(role) != Quant::none;
    block.format = left_out ? dtype : types_.format(name, role, block.in, dtype);
    const WeightFormat& f = block.format;
    const std::string what = fmt::format("{} packed {} {} {} {} {}", name, int(f.kind),
                                         dtype_name(f.dtype), f.group, block.out, block.in);
    block.packed = store_.take(what, packed_bytes(f, block.out, block.in));
    if (plain && types_.outliers_from > 0 && f.kind == WeightFormat::int8)
        block.largest = store_.take(name + " largest", DType::f32, {block.out});
    if (!store_.filled()) pack(block, codes);
    return block;
}

void WeightLoader::pack(Block& block, const FiledCodes& codes) {
    if (codes) {
        pack_filed(ctx_, codes, block.format, block.packed.get());
        for (const TensorEntry* read : {codes.codes, codes.scale, codes.zero})
            if (read) let_go(*read);
        return;
    }
    const Tensor plain = weight(block.name);
    if (block.largest)
        copy(ctx_, pack_llm_int8(ctx_, plain, block.packed.get()).reshape({1, block.out}),
             block.largest.reshape({1, block.out}));
    else
        ctx_.kernels.pack(plain, block.format, block.packed.get(), ctx_.pool);
    let_go(entry(block.name));
}

void WeightLoader::let_go(const TensorEntry& e) {
    checkpoint_.drop(e);
    packed_ += e.bytes.size();
    if (on_share_) on_share_(double(packed_) / double(all_));
}

Linear WeightLoader::linear(const LinearNames& names, Role role) {
    const DType dtype = common_type(names);
    Linear layer;
    for (size_t i = 0; i < names.weights.size(); ++i) {
        Block block = this->block(names.weights[i], role, dtype);
        if (!names.biases[i].empty()) block.bias = vector(names.biases[i]);
        if (block.largest) layer.outliers_from = types_.outliers_from;
        layer.in = block.in;
        layer.out += block.out;
        layer.blocks.push_back(std::move(block));
        if (layer.blocks[0].format != layer.blocks[i].format)
            throw Error("the tensors of one product are kept in different ways",
                        layer.blocks[0].name, layer.blocks[i].name, checkpoint_.where());
    }
    return layer;
}

Tensor WeightLoader::vector(const std::string& name) {
    const TensorEntry& e = entry(name);
    const int64_t count = elements(e);
    Tensor out = store_.take(name, DType::f32, {count});
    if (!store_.filled()) ctx_.kernels.copy(read(e, 1, count), out.reshape({1, count}), ctx_.pool);
    return out;
}

Norm WeightLoader::norm(const NormNames& names, float epsilon) {
    const auto part = [&](const std::string& name) {
        return name.empty() ? Tensor() : vector(name);
    };
    return {part(names.weight), part(names.bias), epsilon};
}

Tensor WeightLoader::activations(const std::string& name, int64_t rows, int64_t width) {
    const TensorEntry& e = entry(name);
    Tensor out = store_.take(name, ctx_.activations, {rows, width});
    if (!store_.filled()) ctx_.kernels.copy(read(e, rows, width), out, ctx_.pool);
    return out;
}

Tensor WeightLoader::sum(const std::string& a, const std::string& b, int64_t width) {
    Tensor out = store_.take(a + " + " + b, ctx_.activations, {1, width});
    if (store_.filled()) return out;
    const auto first_row = [&](const std::string& name) {
        const TensorEntry& e = entry(name);
        const Tensor all = read(e, 1, elements(e)), row = make_tensor(DType::f32, {1, width});
        copy(ctx_, all.slice(1, 0, width), row);
        return row;
    };
    const Tensor x = first_row(a), y = first_row(b);
    for (int64_t i = 0; i < width; ++i) x.as<float>()[i] += y.as<float>()[i];
    copy(ctx_, x, out);
    return out;
}

Tensor WeightLoader::table(const std::string& name) {
    const TensorEntry& e = entry(name);
    return read(e, e.shape[0], e.shape[1]);
}

}  // namespace internvl
