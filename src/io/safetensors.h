#pragma once
#include <cstddef>
#include <functional>
#include <map>
#include <span>
#include <string>
#include <vector>

#include "tensor/dtype.h"

namespace internvl {

// One tensor of a file; `bytes` points into the file.
struct TensorEntry {
    std::string name;
    DType dtype = DType::f32;
    std::vector<int64_t> shape;
    std::span<const std::byte> bytes;
};

struct Safetensors {
    std::vector<TensorEntry> entries;  // in the order of their bytes
    std::map<std::string, std::string> metadata;
    int64_t hole_bytes = 0;  // between tensors; allowed, but odd
};

// Reads the header of a safetensors file. Whatever does not add up is an Error: header length,
// UTF-8, JSON, duplicate names, types, shapes, ranges that are wrong, overlap or leave the file.
Safetensors parse_safetensors(std::span<const std::byte> file, const std::string& where);

// What is to be written: the type and shape of each tensor, in order.
struct TensorPlan {
    std::string name;
    DType dtype = DType::f32;
    std::vector<int64_t> shape;
};

// Writes a file tensor by tensor, under a temporary name until finish(); a file that is not
// finished leaves nothing behind. Every failure (disk full, ...) is an Error.
class SafetensorsWriter {
  public:
    SafetensorsWriter(const std::string& path, std::vector<TensorPlan> plan,
                      const std::map<std::string, std::string>& metadata = {});
    ~SafetensorsWriter();
    SafetensorsWriter(const SafetensorsWriter&) = delete;
    SafetensorsWriter& operator=(const SafetensorsWriter&) = delete;

    // The next bytes of the tensor at hand; tensors follow each other without gaps.
    void write(const void* data, size_t bytes);
    void finish();  // throws when fewer bytes came than planned

  private:
    [[noreturn]] void fail(const char* what);

    std::string path_, temporary_;
    int fd_ = -1;
    size_t left_ = 0;
};

}  // namespace internvl
