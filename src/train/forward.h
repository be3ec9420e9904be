#pragma once
#include <span>
#include <vector>

#include "train/trainable.h"

namespace internvl {

constexpr int ignored_label = -100;

// Tokens of one conversation; its pictures stand at <IMG_CONTEXT> tokens.
struct Sample {
    std::vector<int> ids;
    std::vector<int>
        labels;  // [ids]: the token itself where it is to be learnt, else ignored_label
};

// Samples that do not see each other, and the tiles of all their pictures in order.
struct SampleBatch {
    std::span<const Sample> samples;
    View pixels;  // [tiles, 3, side, side], or absent
};

// What is to be learnt of a batch, a list over all its tokens (those of one sample after those of
// the other): `rows` that have a label behind them, and what comes there.
struct Targets {
    std::vector<int> rows;
    std::vector<int32_t> tokens;

    explicit Targets(std::span<const Sample>);
};

// One pass over a batch -> the loss of each target, [targets] f32, absent when there are none. With
// a tape in the context backward gives the gradients of sum(weight * loss) to what `trained` has
// made known to it. `batch` must live until then. Throws Error when pictures and places do not
// agree.
class ForwardPass {
  public:
    ForwardPass(const InternVL& model, int context_token, const Trainables& trained)
        : model_(model), context_token_(context_token), trained_(trained) {}

    Tensor run(Context&, const SampleBatch&, const Targets&, std::span<const float> weights);

  private:
    Tensor see(Context&, const View& pixels) const;
    void line_up(std::span<const Sample>);

    const InternVL& model_;
    int context_token_;
    const Trainables& trained_;
    Batch rows_;
    RopeFrequencies rope_;
};

// weights of a mean over all of them
std::vector<float> mean_weights(size_t count);

}  // namespace internvl
