#pragma once
#include <functional>
#include <string>
#include <vector>

#include "io/safetensors.h"

namespace internvl {

int64_t bytes_of(const TensorPlan&);

// Throws Error when the disk of `folder` has less room, before hours are spent on filling it.
void check_room(const std::string& folder, int64_t bytes);

void write_text(const std::string& path, const std::string& text);  // throws Error

// Writes a folder's weights: model.safetensors, or shards of at most `shard_bytes` with their
// index. `write` is asked in order for the tensors of each group, which stay in one file.
void write_checkpoint(const std::string& folder, const std::vector<std::vector<TensorPlan>>& groups,
                      int64_t shard_bytes,
                      const std::function<void(size_t group, SafetensorsWriter&)>& write);

}  // namespace internvl
