#include "base/cpu.h"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <sstream>

#include "base/error.h"

namespace internvl {

static constexpr const char* isa_names[] = {"generic", "avx2", "avx512", "avx512_bf16"};

const char* isa_name(Isa isa) {
    return isa_names[int(isa)];
}

static Isa best_isa() {
#if defined(__x86_64__)
    __builtin_cpu_init();
    const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    if (!avx2) return Isa::generic;
    const bool avx512 = __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                        __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
    if (!avx512) return Isa::avx2;
    const bool dots = __builtin_cpu_supports("avx512bf16") && __builtin_cpu_supports("avx512vnni");
    return dots ? Isa::avx512_bf16 : Isa::avx512;
#else
    return Isa::generic;
#endif
}

Isa selected_isa() {
    const Isa best = best_isa();
    const char* forced = std::getenv("INTERNVL_CPU");
    if (!forced || !*forced) return best;
    for (int i = 0; i <= int(Isa::avx512_bf16); ++i) {
        if (std::string(forced) != isa_names[i]) continue;
        if (i > int(best))
            throw Error("this machine lacks the instruction set that was asked for",
                        std::string("at most ") + isa_name(best), forced, "INTERNVL_CPU");
        return Isa(i);
    }
    throw Error("unknown instruction set", "generic, avx2, avx512 or avx512_bf16", forced,
                "INTERNVL_CPU");
}

// cgroup v2 `cpu.max` is "QUOTA PERIOD" or "max PERIOD"; v1 has two files. No limit gives a large
// number.
static double cgroup_cores() {
    double quota = -1, period = 0;
    std::string word;
    std::ifstream v2("/sys/fs/cgroup/cpu.max");
    if (v2 >> word >> period && word != "max") quota = std::atof(word.c_str());
    if (!v2.is_open()) {
        std::ifstream q("/sys/fs/cgroup/cpu/cpu.cfs_quota_us"),
            p("/sys/fs/cgroup/cpu/cpu.cfs_period_us");
        if (!(q >> quota) || !(p >> period)) quota = -1;
    }
    return quota > 0 && period > 0 ? quota / period : 1e9;
}

int usable_cores() {
    cpu_set_t set;
    const int affine = sched_getaffinity(0, sizeof set, &set) == 0 ? CPU_COUNT(&set) : 1;
    return std::max(1, int(std::min<double>(affine, std::ceil(cgroup_cores()))));
}

std::string cpu_description() {
    std::string model = "unknown processor", line;
    std::ifstream info("/proc/cpuinfo");
    while (std::getline(info, line))
        if (line.rfind("model name", 0) == 0 && line.find(": ") != std::string::npos) {
            model = line.substr(line.find(": ") + 2);
            break;
        }
    return model + ", " + isa_name(best_isa());
}

}  // namespace internvl
