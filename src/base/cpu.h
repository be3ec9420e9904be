#pragma once
#include <string>

namespace internvl {

// Instruction sets that kernels choose between. `generic` is what every machine of the architecture
// has.
enum class Isa { generic, avx2, avx512, avx512_bf16 };

// The best set of this machine, or the one that INTERNVL_CPU names (generic, avx2, avx512,
// avx512_bf16) to force a lesser one. Throws Error when the variable names a set that is unknown or
// that the machine lacks.
Isa selected_isa();
const char* isa_name(Isa isa);

// Cores this process may use: its affinity mask, cut by the cgroup's CPU quota (rounded up), at
// least 1.
int usable_cores();

// The model name of the processor and its features that matter here, for --version and bench.
std::string cpu_description();

}  // namespace internvl
