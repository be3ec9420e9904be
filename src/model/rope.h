#pragma once
#include <cstdint>

#include "model/config.h"
#include "ops/ops.h"

namespace internvl {

// The frequencies that a sequence of `length` tokens is turned by (spec 5.2, 5.3): as configured
// while it is short; above the model's limit with an enlarged base (dynamic NTK) or the long
// factors (longrope). Every operation on a frequency is fp32, as the reference's.
RopeFrequencies rope_frequencies(const TextConfig&, int64_t length);

// The rotary embedding of one instance of the reference, which decides anew at every forward pass
// and does not turn cached keys again. Dynamic NTK never goes back: a short sequence after a long
// one keeps the enlarged base.
class ReferenceRope {
  public:
    explicit ReferenceRope(const TextConfig&);
    // `length`: keys of the longest sequence of the pass. Valid until the next call.
    const RopeFrequencies& at(int64_t length);

  private:
    TextConfig config_;
    int64_t table_length_;
    RopeFrequencies now_;
};

}  // namespace internvl
