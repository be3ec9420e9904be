// AdamW, and the sum of squares that clipping wants.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/optimizer.cpp"
#include "ops/cpu/target.h"
//
#include <hwy/foreach_target.h>

#include "ops/cpu/vector-inl.h"

HWY_BEFORE_NAMESPACE();
namespace internvl {
namespace HWY_NAMESPACE {

static constexpr int64_t chunk = 1 << 14;

static void adamw_run(const AdamWArgs& a, int64_t begin, int64_t end) {
    const auto set = [](float x) { return hn::Set(D(), x); };
    const V factor = set(a.factor), kept = set(1 - a.rate * a.decay), beta1 = set(a.beta1),
            beta2 = set(a.beta2), rest1 = set(1 - a.beta1), rest2 = set(1 - a.beta2);
    const V rate = set(a.rate / a.correction1), by = set(1 / a.correction2),
            epsilon = set(a.epsilon);
    for (int64_t i = begin; i < end; i += lanes) {
        const int64_t n = HWY_MIN(lanes, end - i);
        const V g = hn::Mul(load_upto(a.gradient + i, n), factor);
        const V m = hn::MulAdd(load_upto(a.mean + i, n), beta1, hn::Mul(g, rest1));
        const V s = hn::MulAdd(load_upto(a.square + i, n), beta2, hn::Mul(hn::Mul(g, g), rest2));
        const V size = hn::Add(hn::Sqrt(hn::Mul(s, by)), epsilon);
        const V value = hn::Mul(load_upto(a.value + i, n), kept);
        store_upto(hn::Sub(value, hn::Div(hn::Mul(rate, m), size)), a.value + i, n);
        store_upto(m, a.mean + i, n);
        store_upto(s, a.square + i, n);
    }
}

static void adamw(const AdamWArgs& a, ThreadPool& pool) {
    pool.parallel_for(a.count, chunk,
                      [&](int64_t begin, int64_t end, int) { adamw_run(a, begin, end); });
}

// Runs of 16 thousand in fp32, 16 lanes wide; the runs in double, in order.
static double sum_of_squares(const float* x, int64_t count) {
    double total = 0;
    for (int64_t begin = 0; begin < count; begin += chunk) {
        const int64_t end = HWY_MIN(count, begin + chunk);
        V sum = hn::Zero(D());
        for (int64_t i = begin; i < end; i += lanes) {
            const V v = load_upto(x + i, HWY_MIN(lanes, end - i));
            sum = hn::MulAdd(v, v, sum);
        }
        total += double(hn::GetLane(hn::SumOfLanes(D(), sum)));
    }
    return total;
}

static void fill(Kernels& table) {
    table.adamw = adamw;
    table.sum_of_squares = sum_of_squares;
}

}  // namespace HWY_NAMESPACE
}  // namespace internvl
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace internvl {
void fill_optimizer(Kernels& table, Isa isa) {
    INTERNVL_PICK(isa, fill, table);
}
}  // namespace internvl
#endif
