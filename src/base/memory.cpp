#include "base/memory.h"

#include <algorithm>
#include <fstream>
#include <optional>
#include <sstream>

namespace internvl {

// The number behind `key` in a file of lines "key number", such as meminfo and memory.stat.
static std::optional<int64_t> number_behind(const std::string& path, const std::string& key) {
    std::ifstream file(path);
    for (std::string line; std::getline(file, line);) {
        std::istringstream words(line);
        std::string name;
        int64_t value = 0;
        if (words >> name >> value && name == key) return value;
    }
    return std::nullopt;
}

// A file of one number; none for "max".
static std::optional<int64_t> number_in(const std::string& path) {
    std::ifstream file(path);
    int64_t value = 0;
    return file >> value ? std::optional(value) : std::nullopt;
}

// How the two versions of control groups call the same things.
struct GroupFiles {
    const char *root, *limit, *usage, *inactive, *active;
};
constexpr GroupFiles version_1 = {"/memory", "/memory.limit_in_bytes", "/memory.usage_in_bytes",
                                  "total_inactive_file", "total_active_file"};
constexpr GroupFiles version_2 = {"", "/memory.max", "/memory.current", "inactive_file",
                                  "active_file"};

// What a group lets its members take. Its file cache counts as free, for the kernel takes it back:
// a checkpoint that was read once fills the group with it.
static int64_t left_in(const std::string& group, const GroupFiles& names) {
    const auto limit = number_in(group + names.limit), usage = number_in(group + names.usage);
    if (!limit || !usage) return INT64_MAX;
    int64_t cache = 0;
    for (const char* key : {names.inactive, names.active})
        cache += number_behind(group + "/memory.stat", key).value_or(0);
    return std::max<int64_t>(0, *limit - std::max<int64_t>(0, *usage - cache));
}

// The tightest of a group and all those around it. Inside a container the path may be the host's:
// what is not there sets no limit.
static int64_t left_in_all(const std::string& cgroups, std::string path, const GroupFiles& names) {
    int64_t least = INT64_MAX;
    for (;;) {
        least = std::min(least, left_in(cgroups + names.root + path, names));
        if (path.empty()) return least;
        path.erase(path.rfind('/'));
    }
}

// Lines of /proc/self/cgroup are ID:CONTROLLERS:PATH; version 2 has no controllers.
int64_t available_memory(const MemoryFiles& files) {
    int64_t least = INT64_MAX;
    if (const auto kilobytes = number_behind(files.proc + "/meminfo", "MemAvailable:"))
        least = 1024 * *kilobytes;
    std::ifstream groups(files.proc + "/self/cgroup");
    for (std::string line; std::getline(groups, line);) {
        std::istringstream parts(line);
        std::string id, controllers, path;
        std::getline(parts, id, ':');
        std::getline(parts, controllers, ':');
        std::getline(parts, path);
        if (path.empty() || path.front() != '/') continue;
        if (path == "/") path.clear();
        const bool memory = ("," + controllers + ",").find(",memory,") != std::string::npos;
        if (memory) least = std::min(least, left_in_all(files.cgroups, path, version_1));
        if (controllers.empty())
            least = std::min(least, left_in_all(files.cgroups, path, version_2));
    }
    return least;
}

}  // namespace internvl
