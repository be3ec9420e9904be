#pragma once
#include "base/digest.h"
#include "model/internvl.h"

namespace internvl {

// Stands for all that the rows of a picture depend on besides its pixels, for what is kept beyond
// this run: the tower's and the projector's tensors (names, types, shapes and samples of their
// bytes), the types that are computed in, and what the kernels of this program on this machine make
// of a test picture with the tower's first layer.
DigestKey vision_identity(Context&, const Checkpoint&, const InternVL&, const ComputeTypes&);

// Stands for all that packed weights depend on: the files (sizes and times), every tensor as above,
// what weights are kept in, and what the kernels make of a test matrix.
DigestKey weights_identity(Context&, const Checkpoint&, const ComputeTypes&);

// Stands for all that answers depend on besides their questions; the same on another machine of the
// same kind with the same weights.
DigestKey answers_identity(Context&, const Checkpoint&, const ComputeTypes&);

}  // namespace internvl
