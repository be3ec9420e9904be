#pragma once
#include <vector>

#include "train/trainable.h"

namespace internvl {

struct AdamWOptions {
    float beta1 = 0.9f, beta2 = 0.999f, epsilon = 1e-8f;
    float decay = 0.01f;   // decoupled, on every trained tensor (spec 9.6)
    double most_norm = 1;  // gradients of all tensors together are scaled down to this
};

// Length of all gradients together.
double gradient_norm(const Context&, const std::vector<Trainable>&);

// AdamW over a fixed list of tensors.
class AdamW {
  public:
    AdamW(const std::vector<Trainable>&, const AdamWOptions&);

    // Changes the values by their gradients. Returns the norm of these before clipping.
    double step(Context&, std::vector<Trainable>&, double rate);

  private:
    struct Moments {
        Tensor mean, square;  // of the gradient, f32
    };
    AdamWOptions options_;
    std::vector<Moments> moments_;
    int64_t steps_ = 0;
};

}  // namespace internvl
