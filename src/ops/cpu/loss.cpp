// Cross entropy of rows of logits.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/loss.cpp"
#include "ops/cpu/target.h"
//
#include <hwy/foreach_target.h>

#include <cmath>
#include <limits>

#include "ops/cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace internvl {
namespace HWY_NAMESPACE {

static constexpr float lowest = -std::numeric_limits<float>::infinity();

// log of the sum of exp over a row.
static float log_sum(const float* x, int64_t count) {
    const D d;
    V most = hn::Set(d, lowest);
    int64_t i = 0;
    for (; i + lanes <= count; i += lanes) most = hn::Max(most, load(x + i));
    if (i < count) most = hn::Max(most, load_part(x + i, count - i, lowest));
    most = hn::MaxOfLanes(d, most);
    V sum = hn::Zero(d);
    for (i = 0; i + lanes <= count; i += lanes)
        sum = hn::Add(sum, exp_of(hn::Sub(load(x + i), most)));
    if (i < count) sum = hn::Add(sum, exp_of(hn::Sub(load_part(x + i, count - i, lowest), most)));
    return hn::GetLane(most) + std::log(hn::GetLane(hn::SumOfLanes(d, sum)));
}

static void cross_entropy(const View& logits, const int32_t* targets, float* losses,
                          ThreadPool& pool) {
    pool.parallel_for(logits.dim[0], 4, [&](int64_t begin, int64_t end, int) {
        for (int64_t row = begin; row < end; ++row) {
            const float* x = logits.as<float>() + row * logits.stride[0];
            losses[row] = log_sum(x, logits.dim[1]) - x[targets[row]];
        }
    });
}

static void cross_entropy_backward(const View& logits, const int32_t* targets, const float* factor,
                                   const View& dlogits, ThreadPool& pool) {
    pool.parallel_for(logits.dim[0], 4, [&](int64_t begin, int64_t end, int) {
        for (int64_t row = begin; row < end; ++row) {
            const float* x = logits.as<float>() + row * logits.stride[0];
            float* dx = dlogits.as<float>() + row * dlogits.stride[0];
            const V all = hn::Set(D(), log_sum(x, logits.dim[1]));
            const V by = hn::Set(D(), factor[row]);
            for (int64_t i = 0; i < logits.dim[1]; i += lanes) {
                const int64_t n = HWY_MIN(lanes, logits.dim[1] - i);
                const V p = exp_of(hn::Sub(load_upto(x + i, n), all));
                store_upto(hn::MulAdd(p, by, load_upto(dx + i, n)), dx + i, n);
            }
            dx[targets[row]] -= factor[row];
        }
    });
}

static void fill(Kernels& table) {
    table.cross_entropy = cross_entropy;
    table.cross_entropy_backward = cross_entropy_backward;
}

}  // namespace HWY_NAMESPACE
}  // namespace internvl
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace internvl {
void fill_loss(Kernels& table, Isa isa) {
    INTERNVL_PICK(isa, fill, table);
}
}  // namespace internvl
#endif
