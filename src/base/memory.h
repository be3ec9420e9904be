#pragma once
#include <cstdint>
#include <string>

namespace internvl {

// Where the system tells of its memory; tests bring their own files.
struct MemoryFiles {
    std::string proc = "/proc", cgroups = "/sys/fs/cgroup";
};

// Bytes that this process can still take: MemAvailable of the machine, cut by the limits of the
// control groups that the process lies in. INT64_MAX where the system does not tell.
int64_t available_memory(const MemoryFiles& = {});

}  // namespace internvl
