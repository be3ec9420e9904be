#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "io/descriptor.h"

namespace internvl {

// A folder out of which strangers may name files, and nothing else.
class RootedFolder {
  public:
    // Throws Error when the folder cannot be opened. `stepwise`: as on kernels without openat2.
    explicit RootedFolder(const std::string& path, bool stepwise = false);

    // The content of a regular file, at most `limit` bytes of it, at an absolute path beneath the
    // folder: no "..", no symbolic link, nothing that blocks. None for every failure alike.
    std::optional<std::vector<std::byte>> read(const std::string& path, int64_t limit) const;

  private:
    std::string root_;  // ends in a slash
    bool stepwise_;
    Descriptor folder_;
};

}  // namespace internvl
