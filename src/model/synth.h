#pragma once
#include <cstdint>
#include <optional>
#include <string>

namespace internvl {

struct SynthOptions {
    std::string like;  // "internvl2-1b"
    std::string out;   // folder, made when it is not there
    uint64_t seed = 1;
    std::optional<int> layers = {}, vision_layers = {};  // fewer than the real ones
    int64_t shard_bytes = 5'000'000'000;  // most of a file, as in the released folders
    bool weights = true;                  // false: configuration and tokenizer only
};

// Writes a folder in the released layout with the real sizes of a member of the family and random
// bf16 weights, whose activations stay finite, and a tokenizer of the right length that knows bytes
// only. For tests, benchmarks and planning: its answers mean nothing. Returns the number of
// parameters. Throws Error, before anything is written when the disk has no room for it.
int64_t synthesise(const SynthOptions&);

}  // namespace internvl
