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

// Tiles on their way through the tower's layers.
struct VisionRun {
    Tensor x;  // [tiles * (1 + patches), width]
    int64_t tiles = 0;
    size_t layer = 0;  // the next one; `done` tiles have passed it
    int64_t done = 0;
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

    // The same in pieces, with the same bits: begin, advance until it has passed, finish.
    VisionRun begin(Context&, const View& pixels) const;
    // The next layer of the run for at most so many of its tiles.
    void advance(Context&, VisionRun&, int64_t tiles) const;
    bool passed(const VisionRun& run) const { return run.layer == layers.size(); }
    Tensor finish(Context&, const VisionRun&) const;

    int64_t rows_per_tile() const { return positions.dim[0] / 4; }
};

}  // namespace internvl
