#include "model/lora.h"

#include <vector>

#include "tensor/tensor.h"

namespace internvl {

static void erase_all(std::string& text, std::string_view part) {
    for (size_t at; (at = text.find(part)) != text.npos;) text.erase(at, part.size());
}

void unwrap_adapters(Checkpoint& checkpoint) {
    checkpoint.rename([](std::string name) {
        erase_all(name, ".base_model.model");
        erase_all(name, ".base_layer");
        for (const char* half : {".lora_A", ".lora_B"}) {
            const std::string ending = std::string(half) + ".default.weight";
            if (name.ends_with(ending))
                name.replace(name.size() - ending.size(), ending.size(),
                             std::string(".weight") + half);
        }
        return name;
    });
}

AdapterEntries find_adapter(const Checkpoint& checkpoint, const std::string& weight) {
    return {checkpoint.find(weight + ".lora_A"), checkpoint.find(weight + ".lora_B")};
}

static float round_to(DType dtype, float x) {
    return dtype == DType::bf16  ? to_float(to_bf16(x))
           : dtype == DType::f16 ? to_float(to_f16(x))
                                 : x;
}

static float element(const View& v, int64_t i) {
    return v.dtype == DType::bf16  ? to_float(v.as<bf16_t>()[i])
           : v.dtype == DType::f16 ? to_float(v.as<f16_t>()[i])
                                   : v.as<float>()[i];
}

Tensor merge_adapter(const View& weight, const View& down, const View& up) {
    const int64_t out = weight.dim[0], in = weight.dim[1], rank = down.dim[0];
    const DType dtype = weight.dtype;
    Tensor merged = make_tensor(dtype, {out, in});
    std::vector<float> row(size_t(in), 0.0f);
    for (int64_t o = 0; o < out; ++o) {
        std::fill(row.begin(), row.end(), 0.0f);
        for (int64_t r = 0; r < rank; ++r) {
            const float b = element(up, o * rank + r);
            for (int64_t i = 0; i < in; ++i) row[size_t(i)] += b * element(down, r * in + i);
        }
        for (int64_t i = 0; i < in; ++i) {
            const float delta = round_to(dtype, 2 * round_to(dtype, row[size_t(i)]));
            const float sum = element(weight, o * in + i) + delta;
            if (dtype == DType::bf16)
                merged.as<bf16_t>()[o * in + i] = to_bf16(sum);
            else if (dtype == DType::f16)
                merged.as<f16_t>()[o * in + i] = to_f16(sum);
            else
                merged.as<float>()[o * in + i] = sum;
        }
    }
    return merged;
}

}  // namespace internvl
