#pragma once
#include <string>
#include <vector>

#include "base/digest.h"
#include "ops/ops.h"

namespace internvl {

// Names for the full cache blocks of one sequence: digests of all that their keys and values follow
// from, which is every token up to the block's end, what pictures show in their places, and the
// rotary frequencies. Equal names, equal bits: a row does not depend on its company, and prompt and
// generated tokens are computed by the same kernels. Names hold within one engine, which has one
// set of weights and one precision.
class PrefixNames {
  public:
    // Nothing has the same name in two scopes.
    explicit PrefixNames(const RopeFrequencies&, const std::string& scope = {});

    void append(int id);
    // A row of a picture's tile in place of the embedding of `id`.
    void append(int id, const DigestKey& tile, int row);
    void end() { ended_ = true; }  // what follows is not known: it gets no names

    const std::vector<DigestKey>& names() const { return names_; }  // of full blocks, in order

  private:
    void append(int id, const DigestKey* tile, int row);

    Digest digest_;  // of the block that is not full
    int64_t tokens_ = 0;
    bool ended_ = false;
    std::vector<DigestKey> names_;
};

}  // namespace internvl
