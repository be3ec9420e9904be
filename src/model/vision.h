#pragma once
#include <vector>

#include "ops/ops.h"

namespace internvl {

// One block of InternViT (spec 3.4): x += scale * attention(norm(x)); x += scale * mlp(norm(x)).
struct VisionLayer {
    Norm attention_norm, mlp_norm;
    Norm q_norm, k_norm;  // of the whole row, or absent (spec 3.5)
    Linear qkv, out;      // qkv rows are [q | k | v], heads slowest within each
    Linear up, down;
    Tensor attention_scale, mlp_scale;  // [width] f32, "layer scale"
};

// The vision tower and the projector that turns its rows into embeddings of the language model
// (spec 3, 4).
struct Vision {
    int64_t heads = 0, patch = 0;
    bool transposed_shuffle = false;  // ps_version v1
    Linear patch_embedding;           // from 3*patch*patch pixels
    Tensor first_row;                 // [1, width]: class embedding with its position
    Tensor positions;                 // [patches, width]: of the patches
    std::vector<VisionLayer> layers;  // up to the selected one
    Norm projector_norm;
    Linear projector_in, projector_out;

    // pixels [tiles, 3, side, side] -> [tiles * patches/4, embedding width]. Tiles do not see each
    // other (spec 3.5).
    Tensor forward(Context&, const View& pixels) const;

    int64_t rows_per_tile() const { return positions.dim[0] / 4; }
};

}  // namespace internvl
