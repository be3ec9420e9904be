#include "base/cpu.h"

#include <sched.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
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

static std::vector<int> affine_cores() {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0) return {0};
    std::vector<int> cores;
    for (int i = 0; i < CPU_SETSIZE; ++i)
        if (CPU_ISSET(i, &set)) cores.push_back(i);
    return cores;
}

// A kernel's list such as "0-3,8" cut by `cores`.
static std::vector<int> listed(const std::string& list, const std::vector<int>& cores) {
    std::vector<int> found;
    std::istringstream parts(list);
    for (std::string part; std::getline(parts, part, ',');) {
        int first = 0, last = 0;
        const int numbers = std::sscanf(part.c_str(), "%d-%d", &first, &last);
        if (numbers == 1) last = first;
        for (const int core : cores)
            if (numbers > 0 && core >= first && core <= last) found.push_back(core);
    }
    return found;
}

std::vector<int> home_cores(const std::string& nodes) {
    const std::vector<int> all = affine_cores();
    std::vector<int> home;
    for (int node = 0;; ++node) {
        std::ifstream file(nodes + "/node" + std::to_string(node) + "/cpulist");
        std::string list;
        if (!(file >> list)) break;
        if (std::vector<int> here = listed(list, all); here.size() > home.size())
            home = std::move(here);
    }
    return home.empty() ? all : home;
}

int usable_cores() {
    return std::max(1, int(std::min(double(home_cores().size()), std::ceil(cgroup_cores()))));
}

void stay_home(int threads) {
    const std::vector<int> home = home_cores();
    if (threads > int(home.size()) || home.size() == affine_cores().size()) return;
    cpu_set_t set;
    CPU_ZERO(&set);
    for (const int core : home) CPU_SET(core, &set);
    sched_setaffinity(0, sizeof set, &set);  // of this thread; no harm when it is refused
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
