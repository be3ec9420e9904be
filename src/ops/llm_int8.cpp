#include "ops/llm_int8.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace internvl {

static float value_at(const View& v, int64_t i) {
    return v.dtype == DType::bf16  ? to_float(v.as<bf16_t>()[i])
           : v.dtype == DType::f16 ? to_float(v.as<f16_t>()[i])
                                   : v.as<float>()[i];
}

static float rounded(DType dtype, float x) {
    return dtype == DType::bf16  ? to_float(to_bf16(x))
           : dtype == DType::f16 ? to_float(to_f16(x))
                                 : x;
}

static float half(float x) {
    return to_float(to_f16(x));
}

// A row without anything to quantise has codes of 0.
static int code_of(float x, float largest) {
    return largest > 0 ? int(std::nearbyintf(x * (127.0f / largest))) : 0;
}

Tensor pack_llm_int8(Context& ctx, const View& w, void* dst) {
    const int64_t out = w.dim[0], in = w.dim[1];
    Tensor largest = make_tensor(DType::f32, {out});
    std::vector<uint8_t> codes(size_t(out * in));
    ctx.pool.parallel_for(out, 16, [&](int64_t begin, int64_t end, int) {
        for (int64_t n = begin; n < end; ++n) {
            float most = 0;
            const auto at = [&](int64_t k) { return half(value_at(w, n * w.stride[0] + k)); };
            for (int64_t k = 0; k < in; ++k) most = std::max(most, std::abs(at(k)));
            for (int64_t k = 0; k < in; ++k)
                codes[size_t(n * in + k)] = uint8_t(code_of(at(k), most));
            largest.as<float>()[n] = most;
        }
    });
    const std::vector<float> ones(size_t(out), 1.0f);
    ctx.kernels.pack_codes({out, in, codes.data(), ones.data(), nullptr}, WeightFormat::int8, dst,
                           ctx.pool);
    return largest;
}

LlmInt8Rows quantize_llm_int8(Context& ctx, const View& x, float threshold) {
    const int64_t rows = x.dim[0], in = x.dim[1], stride = (in + 3) / 4 * 4;
    LlmInt8Rows q{ctx.arena.get(DType::u8, {rows, stride}), ctx.arena.get(DType::f32, {rows}), {}};
    const auto at = [&](int64_t m, int64_t k) { return half(value_at(x, m * x.stride[0] + k)); };
    std::vector<std::vector<uint8_t>> seen(size_t(ctx.pool.threads()));
    for (auto& columns : seen) columns.resize(size_t(in));
    ctx.pool.parallel_for(rows, 4, [&](int64_t begin, int64_t end, int worker) {
        for (int64_t m = begin; m < end; ++m) {
            float most = 0;
            for (int64_t k = 0; k < in; ++k) {
                const float a = std::abs(at(m, k));
                if (a >= threshold)
                    seen[size_t(worker)][size_t(k)] = 1;
                else
                    most = std::max(most, a);
            }
            q.largest.as<float>()[m] = most;
        }
    });
    for (int64_t k = 0; k < in; ++k) {
        for (const auto& columns : seen) seen[0][size_t(k)] |= columns[size_t(k)];
        if (seen[0][size_t(k)]) q.outliers.push_back(k);
    }
    ctx.pool.parallel_for(rows, 4, [&](int64_t begin, int64_t end, int) {
        for (int64_t m = begin; m < end; ++m) {
            uint8_t* codes = q.codes.as<uint8_t>() + m * stride;
            std::memset(codes, 128, size_t(stride));
            for (int64_t k = 0; k < in; ++k)
                if (!seen[0][size_t(k)])
                    codes[k] = uint8_t(128 + code_of(at(m, k), q.largest.as<float>()[m]));
        }
    });
    return q;
}

namespace {

// Exact sums of codes, as floats: [rows, out].
Tensor sums_of(Context& ctx, const LlmInt8Rows& q, const Linear& layer) {
    const int64_t rows = q.codes.dim[0];
    Tensor sums = ctx.arena.get(DType::f32, {rows, layer.out});
    const std::vector<float> ones(size_t(rows), 1.0f);
    std::vector<GemmBlock> blocks;
    int64_t column = 0;
    for (const Block& b : layer.blocks) {
        blocks.push_back({b.packed.get(), nullptr, b.out, column});
        column += b.out;
    }
    GemmArgs args;
    args.a = q.codes;
    args.c = sums;
    args.in = layer.in;
    args.format = WeightFormat::int8;
    args.a_scale = ones.data();
    args.blocks = blocks.data();
    args.block_count = int(blocks.size());
    ctx.kernels.gemm(args, ctx.pool);
    return sums;
}

// The call, for those who finish some of its columns.
struct Call {
    const View &x, &out;
    const LlmInt8Rows& rows;
    const Tensor& sums;
    const Epilogue& epilogue;
};

// Outputs [begin, end) of a block whose first column is `column`, for all rows.
void finish_columns(const Call& call, const Block& block, int64_t column, int64_t begin,
                    int64_t end) {
    const DType type = call.x.dtype;
    const auto& outliers = call.rows.outliers;
    const size_t count = outliers.size();
    std::vector<float> apart(count);  // an output's weights of the outlier columns
    for (int64_t n = begin; n < end; ++n) {
        const float largest = block.largest.as<float>()[n];
        for (size_t i = 0; i < count; ++i)
            apart[i] =
                rounded(type, float(packed_int8(block.packed.get(), block.in, n, outliers[i])) *
                                  largest / 127);
        for (int64_t m = 0; m < call.x.dim[0]; ++m) {
            const int64_t at = column + n;
            float v = call.sums.as<float>()[m * call.sums.stride[0] + at] * 6.200012e-05f *
                      call.rows.largest.as<float>()[m] * largest;
            const float bias = block.bias ? block.bias.as<float>()[n] : 0;
            // A bias of fp16 is added before the one rounding to fp16.
            v = type == DType::f16 ? half(v + bias) : rounded(type, rounded(type, half(v)) + bias);
            if (count > 0) {
                float sum = 0;
                for (size_t i = 0; i < count; ++i)
                    sum += value_at(call.x, m * call.x.stride[0] + outliers[i]) * apart[i];
                v = rounded(type, v + rounded(type, sum));
            }
            const Epilogue& e = call.epilogue;
            if (e.activation == Activation::gelu)
                v = rounded(type, v * 0.5f * (1 + std::erf(v * 0.70710678f)));
            if (e.scale) v = rounded(type, v * e.scale->as<float>()[at]);
            if (e.residual) v += value_at(e.residual, m * e.residual.stride[0] + at);
            const int64_t place = m * call.out.stride[0] + at;
            if (call.out.dtype == DType::bf16)
                call.out.as<bf16_t>()[place] = to_bf16(v);
            else
                call.out.as<float>()[place] = v;
        }
    }
}

}  // namespace

void llm_int8_into(Context& ctx, const View& x, const Linear& layer, const View& out,
                   const Epilogue& epilogue) {
    const LlmInt8Rows rows = quantize_llm_int8(ctx, x, layer.outliers_from);
    const Tensor sums = sums_of(ctx, rows, layer);
    const Call call{x, out, rows, sums, epilogue};
    int64_t column = 0;
    for (const Block& block : layer.blocks) {
        ctx.pool.parallel_for(block.out, 16, [&](int64_t begin, int64_t end, int) {
            finish_columns(call, block, column, begin, end);
        });
        column += block.out;
    }
}

}  // namespace internvl
