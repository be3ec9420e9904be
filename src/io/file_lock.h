#pragma once
#include <functional>
#include <string>

#include "io/descriptor.h"

namespace internvl {

// Held from construction on, by one process at a time, as huggingface_hub locks the files of its
// cache; the system lets go of it when the process ends, however it ends.
class FileLock {
  public:
    // While another holds it: calls `waiting` again and again, which may throw.
    FileLock(const std::string& path, const std::function<void()>& waiting);

  private:
    Descriptor file_;
};

}  // namespace internvl
