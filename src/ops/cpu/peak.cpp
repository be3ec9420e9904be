#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/peak.cpp"
#include "ops/cpu/target.h"
//
#include <hwy/foreach_target.h>

#include <algorithm>
#include <numeric>
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

// Billions a second of what `work(i, worker)` reports for all i below `count` together.
template <class F>
static double median_rate(ThreadPool& pool, int64_t count, F work) {
    std::vector<double> rates, done(static_cast<size_t>(count));
    for (int run = 0; run < 5; ++run) {
        const Stopwatch watch;
        pool.parallel_for(
            count, 1, [&](int64_t i, int64_t, int worker) { done[size_t(i)] = work(i, worker); });
        const double ms = watch.ms();
        rates.push_back(std::accumulate(done.begin(), done.end(), 0.0) / ms / 1e6);
    }
    std::sort(rates.begin(), rates.end());
    return rates[rates.size() / 2];
}

double peak_gflops(DType dtype, ThreadPool& pool) {
    [[maybe_unused]] const Isa isa = cpu_kernels().isa;
    const bool native = cpu_kernels().native_bf16;
    std::vector<float> memory(size_t(pool.threads()) * 16);
    for (size_t i = 0; i < memory.size(); ++i) memory[i] = float(i);
    return median_rate(pool, pool.threads(), [&](int64_t i, int) {
        float* own = &memory[size_t(i) * 16];
        return native && dtype == DType::bf16 ? multiply_pairs(4'000'000, own)
               : native && dtype == DType::i8 ? multiply_quads(4'000'000, own)
                                              : INTERNVL_PICK(isa, multiply_add, 8'000'000, own);
    });
}

// 512 MB in pieces that the threads take by turns, as they do with panels of weights: neighbours in
// memory are read together.
constexpr int64_t pieces = 2048, piece = int64_t(64) << 10;

ReadPeak::ReadPeak(ThreadPool& pool)
    : pool_(pool),
      memory_(std::static_pointer_cast<float>(map_memory(pieces * piece * sizeof(float)))) {
    pool.parallel_for(pieces, 1, [&](int64_t i, int64_t, int) {
        std::fill_n(memory_.get() + i * piece, piece, 1.0f);
    });
}

double ReadPeak::gb_per_s() {
    [[maybe_unused]] const Isa isa = cpu_kernels().isa;
    std::vector<float> sink(size_t(pool_.threads()) * 16);
    return median_rate(pool_, pieces, [&](int64_t i, int worker) {
        INTERNVL_PICK(isa, read_all, memory_.get() + i * piece, piece, &sink[size_t(worker) * 16]);
        return double(piece) * sizeof(float);
    });
}

}  // namespace internvl
#endif
