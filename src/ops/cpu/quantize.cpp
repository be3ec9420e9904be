// Rows of activations to codes, while a product runs.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/quantize.cpp"
#include "ops/cpu/target.h"
//
#include <hwy/foreach_target.h>

#include <cstring>

#include "ops/cpu/encode-inl.h"

HWY_BEFORE_NAMESPACE();
namespace internvl {
namespace HWY_NAMESPACE {

template <class T>
static void quantize_row(const QuantizeArgs& q, int64_t row) {
    const int64_t in = q.x.dim[1], group = q.group > 0 ? q.group : in, groups = in / group;
    const T* x = q.x.as<T>() + row * q.x.stride[0];
    uint8_t* codes = q.codes + row * q.stride;
    std::memset(codes + in, 0, size_t(q.stride - in));  // they meet weights of zero
    for (int64_t g = 0; g < groups; ++g) {
        const float scale = largest(x + g * group, group) / 127;
        q.scale[row * groups + g] = scale;
        if (q.group == 0)
            encode(x, in, inverse_of(scale), 128, 1, 255, codes);
        else
            q.sum[row * groups + g] = float(
                encode(x + g * group, group, inverse_of(scale), 0, -127, 127, codes + g * group));
    }
}

static void quantize_rows(const QuantizeArgs& q, ThreadPool& pool) {
    pool.parallel_for(q.x.dim[0], 8, [&](int64_t begin, int64_t end, int) {
        for (int64_t row = begin; row < end; ++row)
            q.x.dtype == DType::f32 ? quantize_row<float>(q, row) : quantize_row<bf16_t>(q, row);
    });
}

static void fill(Kernels& table) {
    table.quantize_rows = quantize_rows;
}

}  // namespace HWY_NAMESPACE
}  // namespace internvl
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace internvl {
void fill_quantize(Kernels& table, Isa isa) {
    INTERNVL_PICK(isa, fill, table);
}
}  // namespace internvl
#endif
