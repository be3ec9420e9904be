#pragma once
#include <cstdint>
#include <optional>
#include <string>

namespace internvl {

struct SynthOptions {
    std::string like;  // "internvl2-1b"
    std::string out;   // folder, made when it is not there
    uint64_t seed = 1;
    std::optional<int> layers;  // of the language model
};

// Writes a folder in the released layout with the real sizes of a member of the family and random
// bf16 weights, whose activations stay finite, and a tokenizer of the right length that knows bytes
// only. For tests, benchmarks and planning: its answers mean nothing. Returns the number of
// parameters. Throws Error.
int64_t synthesise(const SynthOptions&);

}  // namespace internvl
