#include "model/filed_codes.h"

#include <cstring>

namespace internvl {

// Where the codes of 8 outputs lie in a word, from its low end (AWQ's gemm layout).
static constexpr int nibble_output[8] = {0, 2, 4, 6, 1, 3, 5, 7};

static std::string stem(const std::string& weight) {
    return weight.substr(0, weight.size() - std::string_view("weight").size());
}

std::vector<TensorPlan> code_tensors(const TensorSpec& spec, const QuantPolicy& policy) {
    if (!spec.role) return {};
    const int64_t out = spec.shape[0], in = spec.shape[1];
    const WeightFormat format = weight_format(policy, *spec.role, in, DType::f32);
    if (format.kind == WeightFormat::int8)
        return {{spec.name, DType::i8, {out, in}}, {spec.name + "_scale", DType::f32, {out}}};
    if (format.kind == WeightFormat::plain) return {};
    const std::string name = stem(spec.name);
    const int64_t groups = in / int4_group(policy, in), words = (out + 7) / 8;
    return {{name + "qweight", DType::i32, {in, words}},
            {name + "qzeros", DType::i32, {groups, words}},
            {name + "scales", DType::f16, {groups, out}}};
}

FiledCodes find_codes(const Checkpoint& checkpoint, const std::string& weight) {
    FiledCodes f;
    if (const TensorEntry* e = checkpoint.find(weight); e && e->dtype == DType::i8) {
        f = {e, checkpoint.find(weight + "_scale")};
        f.out = e->shape[0], f.in = e->shape[1];
    } else if (!e && weight.ends_with("weight")) {
        const std::string name = stem(weight);
        f = {checkpoint.find(name + "qweight"), checkpoint.find(name + "scales"),
             checkpoint.find(name + "qzeros")};
        if (f.codes) f.out = f.scale->shape[1], f.in = f.codes->shape[0];
    }
    return f;
}

// Words [rows, words] -> one byte for each code, [out, rows].
static void unpack_words(const TensorEntry& e, int64_t out, uint8_t* codes, ThreadPool& pool) {
    const int64_t rows = e.shape[0], words = e.shape[1];
    pool.parallel_for(words, 8, [&](int64_t begin, int64_t end, int) {
        for (int64_t row = 0; row < rows; ++row)
            for (int64_t w = begin; w < end; ++w) {
                uint32_t word;
                std::memcpy(&word, e.bytes.data() + 4 * (row * words + w), 4);
                for (int i = 0; i < 8; ++i) {
                    const int64_t n = 8 * w + nibble_output[i];
                    if (n < out) codes[n * rows + row] = word >> (4 * i) & 15;
                }
            }
    });
}

// One byte for each code, [out, rows] -> words [rows, words].
static std::vector<uint8_t> pack_words(const std::vector<uint8_t>& codes, int64_t out,
                                       int64_t rows) {
    const int64_t words = (out + 7) / 8;
    std::vector<uint8_t> bytes(size_t(4 * rows * words));
    for (int64_t w = 0; w < words; ++w)
        for (int64_t row = 0; row < rows; ++row) {
            uint32_t word = 0;
            for (int i = 0; i < 8; ++i)
                if (const int64_t n = 8 * w + nibble_output[i]; n < out)
                    word |= uint32_t(codes[size_t(n * rows + row)]) << (4 * i);
            std::memcpy(bytes.data() + 4 * (row * words + w), &word, 4);
        }
    return bytes;
}

std::vector<std::vector<uint8_t>> filed_bytes(CodeBuffers c, const WeightFormat& format,
                                              int64_t out, int64_t in) {
    if (format.kind == WeightFormat::int8) {
        std::vector<uint8_t> scale(c.scale.size() * sizeof(float));
        std::memcpy(scale.data(), c.scale.data(), scale.size());
        return {std::move(c.codes), std::move(scale)};
    }
    const int64_t groups = in / format.group;
    std::vector<uint8_t> scales(size_t(2 * groups * out));
    for (int64_t n = 0; n < out; ++n)
        for (int64_t g = 0; g < groups; ++g) {
            const f16_t half = to_f16(c.scale[size_t(n * groups + g)]);
            std::memcpy(scales.data() + 2 * (g * out + n), &half, 2);
        }
    return {pack_words(c.codes, out, in), pack_words(c.zero, out, groups), std::move(scales)};
}

static void pack_int4(Context& ctx, const FiledCodes& f, const WeightFormat& format, void* dst) {
    const int64_t filed = f.scale->shape[0], groups = f.in / format.group;
    const int64_t parts = groups / filed;  // of a group of the file
    std::vector<uint8_t> codes(size_t(f.out * f.in)), filed_zero(size_t(f.out * filed)),
        zero(size_t(f.out * groups));
    std::vector<float> scale(size_t(f.out * groups));
    unpack_words(*f.codes, f.out, codes.data(), ctx.pool);
    unpack_words(*f.zero, f.out, filed_zero.data(), ctx.pool);
    for (int64_t n = 0; n < f.out; ++n)
        for (int64_t g = 0; g < groups; ++g) {
            f16_t half;
            std::memcpy(&half, f.scale->bytes.data() + 2 * (g / parts * f.out + n), 2);
            scale[size_t(n * groups + g)] = to_float(half);
            zero[size_t(n * groups + g)] = filed_zero[size_t(n * filed + g / parts)];
        }
    ctx.kernels.pack_codes({f.out, f.in, codes.data(), scale.data(), zero.data()}, format, dst,
                           ctx.pool);
}

void pack_filed(Context& ctx, const FiledCodes& f, const WeightFormat& format, void* dst) {
    if (format.kind == WeightFormat::int4) return pack_int4(ctx, f, format, dst);
    std::vector<float> scale(size_t(f.out));  // the file may not align its elements
    std::memcpy(scale.data(), f.scale->bytes.data(), f.scale->bytes.size());
    ctx.kernels.pack_codes({f.out, f.in, reinterpret_cast<const uint8_t*>(f.codes->bytes.data()),
                            scale.data(), nullptr},
                           format, dst, ctx.pool);
}

}  // namespace internvl
