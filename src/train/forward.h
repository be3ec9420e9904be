#pragma once
#include <span>
#include <vector>

#include "train/sample.h"
#include "train/trainable.h"

namespace internvl {

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
// made known to it. The pass, targets and weights must live until then. Throws Error when pictures
// and places do not agree.
class ForwardPass {
  public:
    ForwardPass(const InternVL& model, int context_token, const Trainables& trained)
        : model_(model), context_token_(context_token), trained_(trained) {}

    Tensor run(Context&, const SampleBatch&, const Targets&, std::span<const float> weights);

  private:
    Tensor see(Context&, const View& pixels) const;
    Tensor losses(Context&, const Tensor& last, const Targets&,
                  std::span<const float> weights) const;
    void line_up(std::span<const Sample>);

    const InternVL& model_;
    int context_token_;
    const Trainables& trained_;
    Batch rows_;
    RopeFrequencies rope_;
};

// What a labelled token counts: 1; 1/x or 1/sqrt(x) of a sample with x labels (spec 9.8).
enum class Weighting { token, sample, square };
double label_weight(const Sample&, Weighting);
// Of each target, their sum being 1.
std::vector<float> target_weights(std::span<const Sample>, Weighting = Weighting::token);

}  // namespace internvl
