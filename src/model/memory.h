#pragma once
#include <cstdint>
#include <string>

#include "base/memory.h"
#include "model/internvl.h"

namespace internvl {

// What one pass of the engine takes at most: tiles through the tower, tokens of a prompt.
constexpr int64_t usual_tiles = 2, usual_chunk = 512;

// Bytes of a loaded model's weights: products packed in their type, vectors in fp32. The embedding
// table is not among them, it stays in the mapped file.
int64_t weight_bytes(const ModelConfig&, const ComputeTypes&);
// The products of the language model alone, what every token reads.
int64_t language_bytes(const ModelConfig&, const ComputeTypes&);
// Keys and values of one token in all layers, as the cache holds them.
int64_t cache_bytes(const TextConfig&, DType kept_as);
// At most what the arena comes to hold for prompts of so many tokens with so many tiles.
int64_t activation_bytes(const ModelConfig&, DType activations, int64_t tokens, int64_t tiles);

// Throws Error when the weights and what one conversation with a picture needs are more than
// `available` bytes. To be asked before weights are read.
void memory_check(const ModelConfig&, const ComputeTypes&, const std::string& where,
                  int64_t available = available_memory());

}  // namespace internvl
