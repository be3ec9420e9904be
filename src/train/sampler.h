#pragma once
#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <vector>

#include "train/labels.h"

namespace internvl {

// The order in which samples of like length come together (spec 9.6): a random permutation, cut
// into runs of `groups` batches; each sorted by length and dealt out, the longest first, to the
// group that has the least so far. `groups`: processes times accumulated batches.
std::vector<int> length_grouped_order(std::span<const int64_t> lengths,
                                      std::span<const int> permutation, size_t batch,
                                      size_t groups);

// How long a conversation is taken to be: tokens of its texts, a line each, and those of as many
// tiles as a picture may have. Like the original this counts texts of one length (in characters)
// once: all later ones are as long as the first, and only they have the tiles added, with or
// without a picture.
class LengthEstimate {
  public:
    LengthEstimate(const Tokenizer& tokenizer, int64_t picture_tokens)
        : tokenizer_(tokenizer), picture_tokens_(picture_tokens) {}
    int64_t of(std::span<const Utterance>);

  private:
    const Tokenizer& tokenizer_;
    int64_t picture_tokens_;
    std::map<size_t, int64_t> known_;  // by characters
};

}  // namespace internvl
