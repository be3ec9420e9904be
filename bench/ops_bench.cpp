// Times the cases of tests/ops/cases.h and states each as a share of what this machine can do,
// measured just before it.
// --benchmark_filter=REGEX picks cases; INTERNVL_CPU and INTERNVL_THREADS choose the kernels and
// the team.
#include <benchmark/benchmark.h>

#include <cstdlib>

#include "base/cpu.h"
#include "ops/cases.h"
#include "ops/cpu/peak.h"

namespace internvl {

// The limits are measured anew before every run: a shared machine's speed wanders.
static void run_case(benchmark::State& state, const OpCase& c, const Kernels& kernels,
                     ThreadPool& pool, ReadPeak& reads) {
    const Prepared p = c.prepare();
    const double read = reads.gb_per_s();
    const double peak = p.flop > 0 ? peak_gflops(c.dtype, pool) : 0;
    for (auto _ : state) p.run(kernels, pool);
    const auto rate = [](double amount) {
        return benchmark::Counter(amount / 1e9, benchmark::Counter::kIsIterationInvariantRate);
    };
    state.counters["GB/s"] = rate(p.bytes);
    state.counters["of_reads"] = rate(p.bytes / read);
    if (p.flop > 0) state.counters["GFLOP/s"] = rate(p.flop);
    if (p.flop > 0) state.counters["of_peak"] = rate(p.flop / peak);
}

}  // namespace internvl

int main(int argc, char** argv) {
    using namespace internvl;
    const char* asked = std::getenv("INTERNVL_THREADS");
    ThreadPool pool(asked ? std::atoi(asked) : usable_cores());
    ReadPeak reads(pool);
    const Kernels& kernels = cpu_kernels();
    benchmark::AddCustomContext("kernels", isa_name(kernels.isa));
    benchmark::AddCustomContext("threads", std::to_string(pool.threads()));
    for (const OpCase& c : op_cases())
        if (c.large)
            benchmark::RegisterBenchmark(
                c.name.c_str(),
                [&, c](benchmark::State& state) { run_case(state, c, kernels, pool, reads); })
                ->UseRealTime()
                ->Unit(benchmark::kMillisecond);
    benchmark::Initialize(&argc, argv);
    benchmark::RunSpecifiedBenchmarks();
}
