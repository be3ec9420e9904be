#pragma once
#include <string>
#include <vector>

namespace internvl {

// Instruction sets that kernels choose between. `generic` is what every machine of the architecture
// has.
enum class Isa { generic, avx2, avx512, avx512_bf16 };

// The best set of this machine, or the one that INTERNVL_CPU names (generic, avx2, avx512,
// avx512_bf16) to force a lesser one. Throws Error when the variable names a set that is unknown or
// that the machine lacks.
Isa selected_isa();
const char* isa_name(Isa isa);

// Cores this process may use: its affinity mask, of that the NUMA node with the most of them, cut
// by the cgroup's CPU quota (rounded up), at least 1. Weights are read by all threads all the time:
// those of another node would wait for the link between the two.
int usable_cores();
// The numbers of these cores, quota aside. `nodes`: where the kernel lists its nodes.
std::vector<int> home_cores(const std::string& nodes = "/sys/devices/system/node");
// Keeps the calling thread on the home cores, when the process may use others too and `threads`
// find room there.
void stay_home(int threads);

// The model name of the processor and its features that matter here, for --version and bench.
std::string cpu_description();

}  // namespace internvl
