#pragma once
#include <functional>
#include <string>
#include <unordered_map>
#include <vector>

#include "io/folder.h"
#include "io/safetensors.h"

namespace internvl {

// The weights of a model folder: one safetensors file, or shards with an index.
class Checkpoint {
  public:
    // Throws one Error with everything that is wrong: shards that are missing, tensors that the
    // index and the shards do not agree about, names that occur twice.
    explicit Checkpoint(const ModelFolder&);

    const TensorEntry* find(const std::string& name) const;  // null when absent
    const std::vector<TensorEntry>& entries() const { return entries_; }
    // Gives every tensor the name that `to` makes of it. Throws Error when two become one.
    void rename(const std::function<std::string(std::string)>& to);
    // The tensor has been read: its pages need not stay.
    void drop(const TensorEntry&) const;

    // Names, sizes and times of the files: another text when one of them was written anew.
    std::string stamp() const;
    int64_t total_bytes() const { return total_bytes_; }  // of tensors
    int64_t hole_bytes() const { return hole_bytes_; }
    const std::vector<std::string>& files() const { return names_; }
    const std::string& where() const { return where_; }

  private:
    void add_file(const ModelFolder&, const std::string& name);

    std::string where_;
    std::vector<std::string> names_;
    std::vector<MappedFile> files_;
    std::vector<size_t> file_of_;  // by entry
    std::vector<TensorEntry> entries_;
    std::unordered_map<std::string, size_t> by_name_;
    std::vector<std::string> problems_;
    int64_t total_bytes_ = 0, hole_bytes_ = 0;
};

}  // namespace internvl
