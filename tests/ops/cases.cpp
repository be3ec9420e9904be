#include "ops/cases.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>

#include "ops/attention_case.h"
#include "ops/linear.h"

namespace internvl {

double tolerance_of(DType activations, int64_t inner) {
    const double rounding = activations == DType::bf16 ? 0x1p-8 : 0;
    return rounding + 4e-7 * std::sqrt(double(inner)) + 1e-6;
}

Tensor random_tensor(DType dtype, std::initializer_list<int64_t> shape, uint64_t seed,
                     float scale) {
    Tensor t = make_tensor(dtype, shape);
    uint64_t state = seed * 0x9e3779b97f4a7c15u + 1;
    for (int64_t i = 0; i < t.size(); ++i) {
        state = state * 6364136223846793005u + 1442695040888963407u;
        const uint64_t x = state ^ state >> 29;
        // Four bytes summed: near enough to normal, deviation 147.8.
        const int sum = int(x & 255) + int(x >> 8 & 255) + int(x >> 16 & 255) + int(x >> 24 & 255);
        const float value = float(sum - 510) / 147.8f * scale;
        if (dtype == DType::f32)
            t.as<float>()[i] = value;
        else if (dtype == DType::bf16)
            t.as<bf16_t>()[i] = to_bf16(value);
        else
            t.as<f16_t>()[i] = to_f16(value);
    }
    return t;
}

double element(const View& v, int64_t i) {
    return v.dtype == DType::f32    ? v.as<float>()[i]
           : v.dtype == DType::bf16 ? to_float(v.as<bf16_t>()[i])
                                    : to_float(v.as<f16_t>()[i]);
}

static double off(double got, double exact) {
    return std::isfinite(got) ? std::abs(got - exact) / (1 + std::abs(exact)) : INFINITY;
}

static double exact_gelu(double x) {
    return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
}

// --- quantised rows ---

static Tensor each_run(const View& rows, int64_t group,
                       const std::function<void(const float*, float*, int64_t)>& run) {
    const int64_t in = rows.dim[1], size = group > 0 ? group : in;
    Tensor out = make_tensor(DType::f32, {rows.dim[0], in});
    std::vector<float> x(static_cast<size_t>(size));
    for (int64_t at = 0; at < rows.dim[0] * in; at += size) {
        for (int64_t i = 0; i < size; ++i) x[size_t(i)] = float(element(rows, at + i));
        run(x.data(), out.as<float>() + at, size);
    }
    return out;
}

Tensor as_int8(const View& rows, int64_t group) {
    return each_run(rows, group, [](const float* x, float* y, int64_t n) {
        float most = 0;
        for (int64_t i = 0; i < n; ++i) most = std::max(most, std::abs(x[i]));
        const float scale = most / 127, inverse = scale > 0 ? 1 / scale : 0;
        for (int64_t i = 0; i < n; ++i) y[i] = std::nearbyint(x[i] * inverse) * scale;
    });
}

Tensor as_int4(const View& rows, int64_t group) {
    return each_run(rows, group, [](const float* x, float* y, int64_t n) {
        const float low = std::min(0.0f, *std::min_element(x, x + n));
        const float high = std::max(0.0f, *std::max_element(x, x + n));
        const float scale = to_float(to_f16((high - low) / 15));
        const float inverse = scale > 0 ? 1 / scale : 0;
        const float zero = scale > 0 ? std::min(15.0f, std::floor(-low / scale + 0.5f)) : 0;
        for (int64_t i = 0; i < n; ++i)
            y[i] = (std::clamp(std::nearbyint(x[i] * inverse) + zero, 0.0f, 15.0f) - zero) * scale;
    });
}

RowCodes::RowCodes(const GemmArgs& args)
    : x(args.a), group(args.format.kind == WeightFormat::int4 ? args.format.group : 0) {
    const bool floats = args.format.kind == WeightFormat::plain ||
                        (args.format.kind == WeightFormat::int4 && x.dtype == DType::f32);
    if (floats) return;
    const int64_t parts = group > 0 ? args.in / group : 1;
    codes = make_tensor(DType::u8, {x.dim[0], (args.in + 3) / 4 * 4});
    scale = make_tensor(DType::f32, {x.dim[0], parts});
    sum = make_tensor(DType::f32, {x.dim[0], parts});
}

void RowCodes::make(const Kernels& k, ThreadPool& pool, GemmArgs& args) {
    if (!codes) return;
    k.quantize_rows(
        {x, group, codes.as<uint8_t>(), codes.dim[1], scale.as<float>(), sum.as<float>()}, pool);
    args.a = codes;
    args.a_scale = scale.as<float>();
    args.a_sum = sum.as<float>();
}

// --- products ---

struct GemmShape {
    int64_t rows, in;
    std::vector<int64_t> outs;  // a block each
    bool bias, gelu, scale, residual, f32_out;
};

struct GemmData {
    Tensor a, c, residual, scale;
    std::vector<Tensor> weights, biases;
    std::vector<std::shared_ptr<void>> packed;
    std::vector<GemmBlock> blocks;
    GemmArgs args;
    Tensor seen;  // `a` and `weights` as the product sees them
};

static double gemm_error(const GemmData& d, const GemmShape& s) {
    double worst = 0;
    const int64_t columns = d.c.dim[1], step = s.rows > 64 ? s.rows / 3 : 1;
    for (int64_t row = 0; row < s.rows; row += step) {
        int64_t column = 0;
        for (size_t b = 0; b < s.outs.size(); ++b)
            for (int64_t n = 0; n < s.outs[b]; ++n, ++column) {
                double sum = s.bias ? element(d.biases[b], n) : 0;
                for (int64_t k = 0; k < s.in; ++k)
                    sum += element(d.seen, row * s.in + k) * element(d.weights[b], n * s.in + k);
                if (s.gelu) sum = exact_gelu(sum);
                if (s.scale) sum *= element(d.scale, column);
                if (s.residual) sum += element(d.residual, row * columns + column);
                worst = std::max(worst, off(element(d.c, row * columns + column), sum));
            }
    }
    return worst;
}

// Before packing: what will be left of the weights, and of the rows.
static void quantise(GemmData& d, const WeightFormat& f) {
    d.seen = d.a;
    if (f.kind == WeightFormat::plain) return;
    const bool int4 = f.kind == WeightFormat::int4;
    for (Tensor& w : d.weights) w = int4 ? as_int4(w, f.group) : as_int8(w, 0);
    if (!int4 || d.a.dtype != DType::f32) d.seen = as_int8(d.a, f.group);
}

static Prepared prepare_gemm(const GemmShape& s, DType activations, const WeightFormat& format,
                             DType weights) {
    auto d = std::make_shared<GemmData>();
    int64_t columns = 0;
    for (const int64_t n : s.outs) columns += n;
    const DType out = s.f32_out ? DType::f32 : activations;
    d->a = random_tensor(activations, {s.rows, s.in}, 1);
    d->c = make_tensor(out, {s.rows, columns});
    d->residual = random_tensor(out, {s.rows, columns}, 2);
    d->scale = random_tensor(DType::f32, {columns}, 3);
    int64_t column = 0;
    for (size_t b = 0; b < s.outs.size(); ++b) {
        d->weights.push_back(
            random_tensor(weights, {s.outs[b], s.in}, 10 + b, 1 / std::sqrt(float(s.in))));
        d->biases.push_back(random_tensor(DType::f32, {s.outs[b]}, 20 + b));
        d->packed.push_back(map_memory(size_t(packed_bytes(format, s.outs[b], s.in))));
        d->blocks.push_back(
            {d->packed[b].get(), s.bias ? d->biases[b].as<float>() : nullptr, s.outs[b], column});
        column += s.outs[b];
    }
    ThreadPool one(1);
    for (size_t b = 0; b < s.outs.size(); ++b)
        cpu_kernels().pack(d->weights[b], format, d->packed[b].get(), one);
    d->args.a = d->a;
    d->args.c = d->c;
    d->args.in = s.in;
    d->args.format = format;
    d->args.blocks = d->blocks.data();
    d->args.block_count = int(s.outs.size());
    d->args.activation = s.gelu ? Activation::gelu : Activation::none;
    d->args.scale = s.scale ? d->scale.as<float>() : nullptr;
    if (s.residual) d->args.residual = d->residual;
    quantise(*d, format);
    auto codes = std::make_shared<RowCodes>(d->args);
    return {[d, codes](const Kernels& k, ThreadPool& pool) {
                codes->make(k, pool, d->args);
                k.gemm(d->args, pool);
            },
            [d, s] { return gemm_error(*d, s); }, 2.0 * double(s.rows * s.in * columns),
            double(packed_bytes(format, columns, s.in))};
}

static void add_gemm(std::vector<OpCase>& list) {
    using enum DType;
    const std::pair<DType, DType> types[] = {{f32, f32}, {f32, bf16}, {f32, f16}, {bf16, bf16}};
    const GemmShape small[] = {
        {1, 16, {16}, false, false, false, false, false},
        {2, 34, {7}, true, false, false, false, false},
        {3, 64, {64, 1, 65}, true, true, false, false, false},
        {5, 96, {130}, true, false, true, true, false},
        {6, 160, {96, 32, 32}, true, false, false, false, false},
        {7, 588, {64}, true, false, false, true, false},
        {13, 128, {200}, false, false, false, false, true},
        {64, 96, {712}, false, true, true, true, false},
        {257, 48, {33}, true, true, true, true, false},
    };
    const GemmShape real[] = {
        // of InternVL2-1B: vision qkv, fc1, fc2; language gate_up, down; decode
        {1025, 1024, {3072}, true, false, false, false, false},
        {1025, 1024, {4096}, true, true, false, false, false},
        {1025, 4096, {1024}, true, false, true, true, false},
        {512, 896, {4864, 4864}, false, false, false, false, false},
        {512, 4864, {896}, false, false, false, true, false},
        {1, 896, {4864, 4864}, false, false, false, false, false},
        {1, 896, {151655}, false, false, false, false, true},
    };
    for (const std::pair<DType, DType>& type : types) {
        const DType a = type.first,
                    w = type.second;  // a lambda cannot catch a structured binding everywhere
        for (const GemmShape& s : small)
            list.push_back({fmt::format("gemm/{}x{}/{}x{}x{}", dtype_name(a), dtype_name(w), s.rows,
                                        s.in, s.outs[0]),
                            a, tolerance_of(s.f32_out ? f32 : a, s.in),
                            [=] { return prepare_gemm(s, a, w, w); }});
        for (const GemmShape& s : real)
            list.push_back({fmt::format("gemm/{}x{}/{}x{}x{}", dtype_name(a), dtype_name(w), s.rows,
                                        s.in, s.outs[0]),
                            a, tolerance_of(s.f32_out ? f32 : a, s.in),
                            [=] { return prepare_gemm(s, a, w, w); }, true});
    }
    const std::pair<const char*, WeightFormat> formats[] = {
        {"int8", WeightFormat::int8},
        {"int4", {WeightFormat::int4, 32}},
        {"int4x64", {WeightFormat::int4, 64}},
        {"int4x128", {WeightFormat::int4, 128}}};
    for (const auto& format : formats)
        for (const DType a : {f32, bf16}) {
            const WeightFormat f = format.second;
            const auto add = [&](const GemmShape& s, bool large) {
                if (f.group > 0 && s.in % f.group != 0) return;
                list.push_back({fmt::format("gemm/{}x{}/{}x{}x{}", dtype_name(a), format.first,
                                            s.rows, s.in, s.outs[0]),
                                large ? i8 : a, tolerance_of(s.f32_out ? f32 : a, s.in),
                                [=] { return prepare_gemm(s, a, f, bf16); }, large});
            };
            for (const GemmShape& s : small) add(s, false);
            for (const GemmShape& s : real)
                if (f.group == 0 || f.group == 64) add(s, true);
        }
}

// --- rows: norms, gate, rotation, copies ---

static Prepared prepare_norm(bool centred, DType dtype, int64_t rows, int64_t width) {
    struct Data {
        Tensor x, y, weight, bias;
    };
    auto d = std::make_shared<Data>(
        Data{random_tensor(dtype, {rows, width}, 1, 3), make_tensor(dtype, {rows, width}),
             random_tensor(DType::f32, {width}, 2), random_tensor(DType::f32, {width}, 3)});
    const NormArgs args{d->x, d->y, d->weight.as<float>(), centred ? d->bias.as<float>() : nullptr,
                        1e-6f};
    const auto error = [=] {
        double worst = 0;
        for (int64_t row = 0; row < rows; ++row) {
            double mean = 0, squares = 0;
            const auto x = [&](int64_t i) { return element(d->x, row * width + i); };
            for (int64_t i = 0; i < width && centred; ++i) mean += x(i) / double(width);
            for (int64_t i = 0; i < width; ++i) squares += (x(i) - mean) * (x(i) - mean);
            const double factor = 1 / std::sqrt(squares / double(width) + 1e-6);
            for (int64_t i = 0; i < width; ++i) {
                const double y = (x(i) - mean) * factor * element(d->weight, i) +
                                 (centred ? element(d->bias, i) : 0);
                worst = std::max(worst, off(element(d->y, row * width + i), y));
            }
        }
        return worst;
    };
    const double bytes = 2.0 * double(rows * width * size_of(dtype));
    return {[=](const Kernels& k, ThreadPool& pool) {
                (centred ? k.layer_norm : k.rms_norm)(args, pool);
            },
            error, 0, bytes};
}

static Prepared prepare_swiglu(DType dtype, int64_t rows, int64_t width) {
    struct Data {
        Tensor x, y;
    };
    auto d = std::make_shared<Data>(
        Data{random_tensor(dtype, {rows, 2 * width}, 1, 4), make_tensor(dtype, {rows, width})});
    const auto error = [=] {
        double worst = 0;
        for (int64_t i = 0; i < rows * width; ++i) {
            const double gate = element(d->x, i / width * 2 * width + i % width);
            const double up = element(d->x, i / width * 2 * width + width + i % width);
            worst = std::max(worst, off(element(d->y, i), gate / (1 + std::exp(-gate)) * up));
        }
        return worst;
    };
    return {[=](const Kernels& k, ThreadPool& pool) { k.swiglu(d->x, d->y, pool); }, error, 0,
            3.0 * double(rows * width * size_of(dtype))};
}

// Each group ends with one head that is not turned, as a value does in an interleaved product.
static Prepared prepare_rope(DType dtype, int64_t tokens, int64_t groups, int64_t heads,
                             int64_t dim) {
    struct Data {
        Tensor x, original, cos, sin;
    };
    auto d = std::make_shared<Data>(Data{make_tensor(dtype, {tokens, groups, heads, dim}),
                                         random_tensor(dtype, {tokens, groups, heads, dim}, 1),
                                         random_tensor(DType::f32, {tokens, dim / 2}, 2),
                                         random_tensor(DType::f32, {tokens, dim / 2}, 3)});
    const auto error = [=] {
        double worst = 0;
        for (int64_t row = 0; row < tokens * groups * heads; ++row)
            for (int64_t i = 0; i < dim / 2; ++i) {
                const int64_t at = row * dim + i, t = row / (groups * heads);
                const bool turned = row % heads < heads - 1;
                const double a = element(d->original, at), b = element(d->original, at + dim / 2);
                const double c = turned ? element(d->cos, t * dim / 2 + i) : 1,
                             s = turned ? element(d->sin, t * dim / 2 + i) : 0;
                worst = std::max({worst, off(element(d->x, at), a * c - b * s),
                                  off(element(d->x, at + dim / 2), b * c + a * s)});
            }
        return worst;
    };
    const auto run = [=](const Kernels& k, ThreadPool& pool) {
        std::memcpy(d->x.data, d->original.data, size_t(d->x.bytes()));
        const View turned = d->x.slice(2, 0, heads - 1);
        k.rope({turned, d->cos.as<float>(), d->sin.as<float>()}, pool);
    };
    return {run, error, 0, 2.0 * double(d->x.bytes())};
}

static Prepared prepare_copy(DType from, DType to, int64_t rows, int64_t width) {
    struct Data {
        Tensor x, y;
    };
    auto d = std::make_shared<Data>(
        Data{random_tensor(from, {rows, 2, width}, 1), make_tensor(to, {2, rows, width})});
    View target = d->y;  // written transposed: strides of every kind
    std::swap(target.dim[0], target.dim[1]);
    std::swap(target.stride[0], target.stride[1]);
    const auto error = [=] {
        double worst = 0;
        for (int64_t r = 0; r < rows; ++r)
            for (int64_t h = 0; h < 2; ++h)
                for (int64_t i = 0; i < width; ++i)
                    worst = std::max(worst, off(element(d->y, (h * rows + r) * width + i),
                                                element(d->x, (r * 2 + h) * width + i)));
        return worst;
    };
    return {[=](const Kernels& k, ThreadPool& pool) { k.copy(d->x, target, pool); }, error, 0,
            double(d->x.bytes() + d->y.bytes())};
}

static void add_rows(std::vector<OpCase>& list) {
    using enum DType;
    const auto add = [&](const std::string& name, DType dtype, int64_t inner,
                         std::function<Prepared()> f, bool large = false) {
        list.push_back({name, dtype, tolerance_of(dtype, inner), std::move(f), large});
    };
    for (const DType t : {f32, bf16}) {
        const std::string type = dtype_name(t);
        for (const int64_t width : {1, 15, 16, 17, 64, 100, 1024, 4097}) {
            for (const bool centred : {false, true})
                add(fmt::format("{}/{}/{}", centred ? "layer_norm" : "rms_norm", type, width), t,
                    width, [=] { return prepare_norm(centred, t, 3, width); });
            add(fmt::format("swiglu/{}/{}", type, width), t, 1,
                [=] { return prepare_swiglu(t, 5, width); });
        }
        for (const int64_t dim : {2, 16, 64, 96, 128})
            add(fmt::format("rope/{}/{}", type, dim), t, 4,
                [=] { return prepare_rope(t, 7, 2, 4, dim); });
        add(
            "layer_norm/" + type + "/1025x1024", t, 1024,
            [=] { return prepare_norm(true, t, 1025, 1024); }, true);
        add(
            "swiglu/" + type + "/512x4864", t, 1, [=] { return prepare_swiglu(t, 512, 4864); },
            true);
        add(
            "rope/" + type + "/512x16x64", t, 4, [=] { return prepare_rope(t, 512, 1, 17, 64); },
            true);
    }
    for (const DType from : {f32, bf16, f16})
        for (const DType to : {f32, bf16})
            list.push_back({fmt::format("copy/{}to{}", dtype_name(from), dtype_name(to)), to,
                            to == bf16  ? 0x1p-8
                            : to == f16 ? 0x1p-11
                                        : 0,
                            [=] { return prepare_copy(from, to, 9, 37); }});
}

std::vector<OpCase> op_cases() {
    std::vector<OpCase> list;
    add_gemm(list);
    add_rows(list);
    add_attention(list);
    return list;
}

}  // namespace internvl
