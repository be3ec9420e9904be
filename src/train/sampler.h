#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace internvl {

// The order in which samples of like length come together (spec 9.6): a random permutation, cut
// into runs of `groups` batches; each sorted by length and dealt out, the longest first, to the
// group that has the least so far. `groups`: processes times accumulated batches.
std::vector<int> length_grouped_order(std::span<const int64_t> lengths,
                                      std::span<const int> permutation, size_t batch,
                                      size_t groups);

}  // namespace internvl
