#pragma once
#include <cstdint>

#include "model/internvl.h"

namespace internvl {

// Which parts get adapters, of what rank (0: none); alpha is twice the rank (spec 9.5).
struct LoraOptions {
    int64_t language = 0, vision = 0;
    uint64_t seed = 42;
};

// Gives every product of the chosen layers an adapter for each of its tensors: the targets of spec
// 9.5 in every family. `down` is uniform within 1/sqrt(in), `up` zero, so that nothing changes yet.
// Throws UsageError for an odd rank.
void add_adapters(Context&, InternVL&, const LoraOptions&);

}  // namespace internvl
