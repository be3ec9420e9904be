#pragma once
#include "engine/engine.h"

namespace internvl {

// The best of several answers that are followed at once, as transformers 4.37.2 does (spec 6.4):
// processors see log-probabilities, 2 * beams continuations compete, a finished answer counts by
// its score over length^length_penalty. on_token hears the answer when it is known. Throws
// UsageError for options out of range, Error when the prompt does not fit.
Answer beam_search(Engine&, const Generation&, ReferenceRope* reference);

}  // namespace internvl
