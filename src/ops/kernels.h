#pragma once
// What one device computes: a table of functions over plain views. Ops (ops.h) check shapes and
// allocate; a kernel does neither, and never throws or logs. Rules for every kernel:
//   * a row's bits do not depend on the other rows of the call, their number, or the threads (sums
//   over the inner
//     dimension run in one fixed order, whatever the shape of the call);
//   * arithmetic is fp32 (bf16 products accumulate in fp32); one rounding when a result is stored.
// "Activations" are f32 or bf16 throughout a model; parameters of norms, biases and scales are f32.

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/cpu.h"
#include "base/parallel.h"
#include "tensor/tensor.h"

namespace internvl {

// How the weights of a product are kept. int8: a scale for each output, no zero. int4: `group`
// inputs (a multiple of 8, at most 128) share a scale and a zero.
struct WeightFormat {
    enum Kind : uint8_t { plain, int8, int4 } kind = plain;
    DType dtype = DType::f32;  // of plain ones: f32, bf16 or f16
    int group = 0;

    WeightFormat() = default;
    WeightFormat(DType type) : dtype(type) {}
    WeightFormat(Kind k, int g = 0) : kind(k), group(g) {}
    bool operator==(const WeightFormat&) const = default;
};

// Weights are kept once, packed for every number of rows alike: panels of 64 outputs, each one
// stream over the inputs, [ceil(out/64)][in/P][64][P] with P = 1 for f32 and 2 for 16-bit types;
// missing outputs of the last panel are zero. Quantised panels: ops/cpu/quant_tile.h.
constexpr int64_t panel_width = 64;
int64_t packed_bytes(const WeightFormat& format, int64_t out, int64_t in);

// Quantised weights as a file holds them: weight = (code - zero) * scale.
struct WeightCodes {
    int64_t out, in;
    const uint8_t* codes;  // [out, in]: int8 signed, without a zero; int4 0..15
    const float* scale;    // [out, groups]; int8: [out]. int4: rounded to f16
    const uint8_t* zero;   // [out, groups]; int4 only
};

struct CodeBuffers {
    std::vector<uint8_t> codes, zero;
    std::vector<float> scale;
};
// The codes of packed weights, as they were before.
CodeBuffers unpack_codes(const void* packed, const WeightFormat&, int64_t out, int64_t in);

// One of them, of int8.
int8_t packed_int8(const void* packed, int64_t in, int64_t output, int64_t input);

// A cache block holds 16 tokens of one key/value head, laid out as the packed right-hand side of a
// product: keys [head_dim/P][16][P], values [16/P][head_dim][P].
constexpr int64_t cache_block = 16;

enum class Activation { none, gelu };

// One tensor of the checkpoint inside a product: `out` columns of the output, from `column` on.
struct GemmBlock {
    const void* weight;  // packed
    const float* bias;   // [out] or null
    int64_t out;
    int64_t column;
};

// c = residual + scale * activation(a * weight^T + bias)
struct GemmArgs {
    View a;      // [rows, in], rows may be strided; activations, or their codes (QuantizeArgs)
    View c;      // [rows, columns]; activations or f32
    int64_t in;  // inputs; codes of rows have a few more
    WeightFormat format;  // f32, bf16, f16 with f32 activations; bf16 with bf16 ones; int8, int4
    // Of a quantised `a`; with int4, `a` may also be f32, and weights are then widened.
    const float* a_scale = nullptr;
    const float* a_sum = nullptr;
    const GemmBlock* blocks;
    int block_count;
    Activation activation = Activation::none;
    const float* scale = nullptr;  // [columns] or null
    View residual;                 // [rows, columns] like c, may be c itself; or absent
};

// Rows to codes: x = code * scale, the scale that of the largest magnitude over 127.
struct QuantizeArgs {
    View x;         // [rows, in], rows may be strided; activations
    int64_t group;  // inputs that share a scale; 0: the whole row
    // [rows, stride]: whole rows as code + 128, with a stride of `in` rounded up to 4; groups as
    // signed bytes.
    uint8_t* codes;
    int64_t stride;
    float* scale;  // [rows, groups]
    float* sum;    // [rows, groups] of the codes; null for whole rows
};

struct NormArgs {
    View x, y;            // [rows, width], rows may be strided
    const float* weight;  // [width]
    const float* bias;    // [width] or null
    float epsilon;
};

struct RopeArgs {
    View x;            // [tokens, groups, heads, head_dim], in place, halves paired (NeoX)
    const float* cos;  // [tokens, head_dim/2]
    const float* sin;
};

// Heads in the cache are padded with zeros to whole strips of 16.
constexpr int64_t padded_head(int64_t head_dim) {
    return (head_dim + 15) / 16 * 16;
}

// Key and value blocks of one layer: base pointers and the distance between blocks and between
// heads, in elements.
struct CacheView {
    void* keys = nullptr;
    void* values = nullptr;
    DType dtype = DType::f32;                     // of the activations, or i8
    int64_t heads = 0, head_dim = 0, blocks = 0;  // head_dim as padded
    // i8: codes in the same order, then a float for each token of the block, its scale.
    int64_t head_stride() const {
        return cache_block * (head_dim + (dtype == DType::i8 ? int64_t(sizeof(float)) : 0));
    }
    int64_t block_stride() const { return heads * head_stride(); }
};

struct CacheStoreArgs {
    View keys, values;  // [tokens, heads, head_dim], tokens and heads may be strided
    CacheView cache;
    const int32_t* slots;  // [tokens]: block * 16 + place
};

// The queries [query_begin, query_begin + query_count) of a sequence that has key_count keys, its
// last query_count ones being the queries' own.
struct AttentionSpan {
    int64_t query_begin, query_count, key_count;
    const int32_t* block_table;  // [ceil(key_count/16)]: which cache block holds keys 16*i ...
};

struct AttentionArgs {
    View q, out;  // [tokens, kv_heads, group, head_dim], all but the last dimension may be strided
    CacheView cache;
    const AttentionSpan* spans;
    int span_count;
    bool causal;
    float scale;
    float* scratch;  // attention_scratch(cache) floats for each thread
};

// --- training: what stands beside the forward kernels. Gradients are f32; "added" means to what is
// there. ---

// out = residual + scale * activation(z): the end of a product whose sums were stored.
struct FinishRowsArgs {
    View z;    // [rows, columns] f32
    View out;  // [rows, columns]; activations or f32
    Activation activation;
    const float* scale;  // [columns] or null
    View residual;       // like `out`, may be `out` itself; or absent
};
struct FinishRowsBackwardArgs {
    View z;  // absent where neither an activation nor dscale wants it
    View dout, dz;
    Activation activation;
    const float* scale;  // or null
    float* dscale;       // [columns], added; or null
};

struct NormBackwardArgs {
    View x, dy;           // [rows, width]; x as it was, activations
    View dx;              // or absent; may be dy itself when not added
    bool add;             // to dx, else it is overwritten
    const float* weight;  // [width]
    float epsilon;
    float *dweight, *dbias;  // [width], added; or null
    float* moments;          // [rows, 2] scratch
};

struct AttentionBackwardArgs {
    View q, k, v;     // as for attention_dense (ops.h)
    View dout;        // like q
    View dq, dk, dv;  // like q, k, v; added
    float* scratch;   // attention_backward_scratch of them
    const AttentionSpan* spans;
    int span_count;
    bool causal;
    float scale;
};
int64_t attention_backward_scratch(const AttentionBackwardArgs&, int threads);

struct AdamWArgs {
    float *value, *mean, *square;  // [count]
    const float* gradient;
    int64_t count;
    float factor;  // of the gradient: clipping
    float rate, decay, beta1, beta2, epsilon;
    float correction1, correction2;  // 1 - beta^step
};

struct Kernels {
    Isa isa;
    bool native_bf16;  // products of bf16 run at full rate

    // w [out, in] of any float type, rows may be strided -> dst, packed_bytes(format, out, in).
    // Quantised by rounding to nearest.
    void (*pack)(const View& w, const WeightFormat&, void* dst, ThreadPool&);
    void (*pack_codes)(const WeightCodes&, const WeightFormat&, void* dst, ThreadPool&);
    void (*quantize_rows)(const QuantizeArgs&, ThreadPool&);
    void (*gemm)(const GemmArgs&, ThreadPool&);
    void (*layer_norm)(const NormArgs&, ThreadPool&);
    void (*rms_norm)(const NormArgs&, ThreadPool&);
    // gate_up [rows, 2*width] -> y [rows, width] = silu(gate) * up
    void (*swiglu)(const View& gate_up, const View& y, ThreadPool&);
    void (*rope)(const RopeArgs&, ThreadPool&);
    void (*cache_store)(const CacheStoreArgs&, ThreadPool&);
    void (*attention)(const AttentionArgs&, ThreadPool&);
    // Same shape, any strides with a contiguous last dimension; converts f32, bf16 or f16 to f32 or
    // bf16.
    void (*copy)(const View& from, const View& to, ThreadPool&);

    // Training.
    void (*finish_rows)(const FinishRowsArgs&, ThreadPool&);
    void (*finish_rows_backward)(const FinishRowsBackwardArgs&, ThreadPool&);
    // x [rows, columns] f32 -> sums over rows, added to [columns]
    void (*add_column_sums)(const View& x, float* sums, ThreadPool&);
    void (*layer_norm_backward)(const NormBackwardArgs&, ThreadPool&);
    void (*rms_norm_backward)(const NormBackwardArgs&, ThreadPool&);
    // gate_up like swiglu's, dy [rows, width] -> d_gate_up, added
    void (*swiglu_backward)(const View& gate_up, const View& dy, const View& d_gate_up,
                            ThreadPool&);
    void (*attention_backward)(const AttentionBackwardArgs&, ThreadPool&);
    // The gradient of a copy goes back to its source: `from` is added to `to` and becomes zero.
    // f32, shapes and strides as of copy. `to` may be absent.
    void (*hand_back)(const View& from, const View& to, ThreadPool&);
    // logits [rows, vocab] f32, targets [rows] -> losses [rows]; the gradient is
    // (softmax - one at the target) * factor[row], added to dlogits.
    void (*cross_entropy)(const View& logits, const int32_t* targets, float* losses, ThreadPool&);
    void (*cross_entropy_backward)(const View& logits, const int32_t* targets, const float* factor,
                                   const View& dlogits, ThreadPool&);
    // Right-hand sides for the products of backward, in panels like packed weights. x [inner,
    // outputs] -> panels of x^T in x's type, of pad_inner(inner) inputs.
    void (*pack_columns)(const View& x, void* dst, ThreadPool&);
    // Packed plain weights [out, in] of `from` -> those of the transposed matrix, of
    // pad_inner(out) inputs, in the same type.
    void (*transpose_packed)(const void* packed, DType from, int64_t out, int64_t in, void* dst,
                             ThreadPool&);
    // from [rows, columns] f32 -> to [columns, pad_inner(rows)], f32 or bf16, zero behind the rows.
    void (*transpose)(const View& from, const View& to, ThreadPool&);
    void (*adamw)(const AdamWArgs&, ThreadPool&);
    double (*sum_of_squares)(const float* x, int64_t count);
};

// Inner dimensions of 16-bit products are whole pairs.
constexpr int64_t pad_inner(int64_t inner) {
    return (inner + 1) / 2 * 2;
}

int64_t attention_scratch(const CacheView&);  // floats per thread

// The table of this machine's processor (selected_isa()), or of a lesser instruction set that it
// has.
const Kernels& cpu_kernels();
Kernels cpu_kernels_for(Isa isa);

}  // namespace internvl
