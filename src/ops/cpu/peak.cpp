#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/peak.cpp"
#include "ops/cpu/target.h"
//
#include <hwy/foreach_target.h>

#include <algorithm>
#include <vector>

#include "base/clock.h"
#include "ops/cpu/peak.h"
#include "ops/cpu/quant_tile.h"
#include "ops/cpu/tile.h"
#include "ops/cpu/vector-inl.h"
#include "tensor/arena.h"

HWY_BEFORE_NAMESPACE();
namespace internvl {
namespace HWY_NAMESPACE {

// `rounds` times 12 independent chains of multiply-adds; returns the operations done. The chains
// begin with different numbers that the compiler cannot know, or it would compute one for all.
static double multiply_add(int64_t rounds, float* memory) {
    constexpr int chains = 12;
    const D d;
    const V x = hn::Set(d, 0.999f), y = hn::Set(d, 0.001f);
    V sum[chains];
    for (int c = 0; c < chains; ++c) sum[c] = hn::Set(d, memory[c]);
    for (int64_t i = 0; i < rounds; ++i)
        for (int c = 0; c < chains; ++c) sum[c] = hn::MulAdd(sum[c], x, y);
    for (int c = 0; c < chains; ++c) memory[c] = hn::GetLane(hn::SumOfLanes(d, sum[c]));
    return double(rounds) * chains * 2 * double(lanes);
}

static void read_all(const float* from, int64_t count, float* sink) {
    const D d;
    V s0 = hn::Zero(d), s1 = s0, s2 = s0, s3 = s0;
    for (int64_t i = 0; i + 4 * lanes <= count; i += 4 * lanes) {
        s0 = hn::Add(s0, load(from + i));
        s1 = hn::Add(s1, load(from + i + lanes));
        s2 = hn::Add(s2, load(from + i + 2 * lanes));
        s3 = hn::Add(s3, load(from + i + 3 * lanes));
    }
    *sink = hn::GetLane(hn::SumOfLanes(d, hn::Add(hn::Add(s0, s1), hn::Add(s2, s3))));
}

}  // namespace HWY_NAMESPACE
}  // namespace internvl
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace internvl {

template <class F>
static double median_rate(ThreadPool& pool, F work) {
    std::vector<double> rates;
    for (int run = 0; run < 5; ++run) {
        std::vector<double> done(size_t(pool.threads()));
        const Stopwatch watch;
        pool.parallel_for(pool.threads(), 1,
                          [&](int64_t i, int64_t, int) { done[size_t(i)] = work(i); });
        double all = 0;
        for (const double d : done) all += d;
        rates.push_back(all / watch.ms() / 1e6);
    }
    std::sort(rates.begin(), rates.end());
    return rates[rates.size() / 2];
}

double peak_gflops(DType dtype, ThreadPool& pool) {
    const Isa isa = cpu_kernels().isa;
    const bool native = cpu_kernels().native_bf16;
    std::vector<float> memory(size_t(pool.threads()) * 16);
    for (size_t i = 0; i < memory.size(); ++i) memory[i] = float(i);
    return median_rate(pool, [&](int64_t i) {
        float* own = &memory[size_t(i) * 16];
        return native && dtype == DType::bf16 ? multiply_pairs(4'000'000, own)
               : native && dtype == DType::i8 ? multiply_quads(4'000'000, own)
                                              : INTERNVL_PICK(isa, multiply_add, 8'000'000, own);
    });
}

double peak_read_gb_per_s(ThreadPool& pool) {
    const Isa isa = cpu_kernels().isa;
    constexpr int64_t count = int64_t(128) << 20;  // floats: 512 MB
    const auto memory = map_memory(count * sizeof(float));
    float* data = static_cast<float*>(memory.get());
    const int64_t share = count / pool.threads();
    pool.parallel_for(pool.threads(), 1,
                      [&](int64_t i, int64_t, int) { std::fill_n(data + i * share, share, 1.0f); });
    std::vector<float> sink(size_t(pool.threads()) * 16);
    return median_rate(pool, [&](int64_t i) {
        INTERNVL_PICK(isa, read_all, data + i * share, share, &sink[size_t(i) * 16]);
        return double(share) * sizeof(float);
    });
}

}  // namespace internvl
#endif
