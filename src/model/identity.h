#pragma once
#include "base/digest.h"
#include "model/internvl.h"

namespace internvl {

// Stands for all that the rows of a picture depend on besides its pixels, for what is kept beyond
// this run: the tower's and the projector's tensors (names, types, shapes and samples of their
// bytes), the types that are computed in, and what the kernels of this program on this machine make
// of a test picture with the tower's first layer.
DigestKey vision_identity(Context&, const Checkpoint&, const InternVL&, const ComputeTypes&);

}  // namespace internvl
