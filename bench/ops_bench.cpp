// Times the cases of tests/ops/cases.h and states each as a share of what this machine can do,
// measured in the same run.
// --benchmark_filter=REGEX picks cases; INTERNVL_CPU and INTERNVL_THREADS choose the kernels and
// the team.
#include <benchmark/benchmark.h>

#include <cstdlib>

#include "base/cpu.h"
#include "ops/cases.h"
#include "ops/cpu/peak.h"

int main(int argc, char** argv) {
    using namespace internvl;
    const char* asked = std::getenv("INTERNVL_THREADS");
    ThreadPool pool(asked ? std::atoi(asked) : usable_cores());
    const Kernels& kernels = cpu_kernels();
    const double f32 = peak_gflops(DType::f32, pool), bf16 = peak_gflops(DType::bf16, pool),
                 bytes = peak_gflops(DType::i8, pool), read = ReadPeak(pool).gb_per_s();
    benchmark::AddCustomContext("kernels", isa_name(kernels.isa));
    benchmark::AddCustomContext("peak f32 GFLOP/s", std::to_string(f32));
    benchmark::AddCustomContext("peak bf16 GFLOP/s", std::to_string(bf16));
    benchmark::AddCustomContext("peak int8 GOP/s", std::to_string(bytes));
    benchmark::AddCustomContext("read GB/s", std::to_string(read));
    const std::vector<OpCase> cases = op_cases();
    for (const OpCase& c : cases) {
        if (!c.large) continue;
        benchmark::RegisterBenchmark(c.name.c_str(),
                                     [&, c](benchmark::State& state) {
                                         const Prepared p = c.prepare();
                                         for (auto _ : state) p.run(kernels, pool);
                                         using benchmark::Counter;
                                         const double peak = c.dtype == DType::bf16 ? bf16
                                                             : c.dtype == DType::i8 ? bytes
                                                                                    : f32;
                                         const auto rate = [&](double amount) {
                                             return Counter(amount / 1e9,
                                                            Counter::kIsIterationInvariantRate);
                                         };
                                         state.counters["GB/s"] = rate(p.bytes);
                                         state.counters["of_reads"] = rate(p.bytes / read);
                                         if (p.flop > 0) state.counters["GFLOP/s"] = rate(p.flop);
                                         if (p.flop > 0)
                                             state.counters["of_peak"] = rate(p.flop / peak);
                                     })
            ->UseRealTime()
            ->Unit(benchmark::kMillisecond);
    }
    benchmark::Initialize(&argc, argv);
    benchmark::RunSpecifiedBenchmarks();
}
