#pragma once
#include <optional>
#include <string>
#include <vector>

#include "io/mapped_file.h"

namespace internvl {

// A model's files: a folder in the released layout, or one that is built into the program.
class ModelFolder {
  public:
    static ModelFolder open(const std::string& path);  // throws Error when there is no such folder
    static ModelFolder builtin(
        const std::string& name);  // throws Error when there is no such model
    static bool has_builtin(const std::string& name);

    bool has(const std::string& file) const;
    // The contents of a small file (JSON, vocabulary), none when it is not there.
    std::optional<std::string> read(const std::string& file) const;
    MappedFile map(const std::string& file) const;
    std::vector<std::string> list() const;  // sorted
    // The folder's path, or "built-in NAME": for messages.
    const std::string& where() const { return where_; }

  private:
    std::string path_;  // empty for a built-in one
    std::string where_;
};

}  // namespace internvl
