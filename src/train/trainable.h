#pragma once
#include <optional>
#include <string>
#include <vector>

#include "model/parameters.h"
#include "ops/tape.h"

namespace internvl {

// What stays as it is (spec 9.4). Adapters are always trained; with them everything else is frozen.
struct Frozen {
    bool language = false, vision = false, projector = false;
    // Layers of a frozen tower that are trained all the same: the slice layers[n:] of the
    // reference, so -4 are the last four; 0: none.
    int64_t unfreeze_vision_layers = 0;
};
constexpr Frozen all_frozen{true, true, true};

// A tensor that is trained, under its own name: the fp32 values that the optimiser changes, and
// where its gradient is summed up.
struct Trainable {
    std::string name;
    std::vector<Parameter> uses;  // where the model reads it; two for a tied head
    Tensor value, gradient;       // f32, [out, in], or [1, count]
};

// The trained tensors of a model.
class Trainables {
  public:
    // Values come from the checkpoint; those of adapters from add_adapters (lora.h). The embedding
    // table of the model moves into memory when it is trained. Throws Error for weights that are
    // kept in codes.
    Trainables(Context&, InternVL&, const Checkpoint&, const Frozen&);

    std::vector<Trainable>& all() { return all_; }
    Trainable& at(const std::string& name);  // throws Error
    int64_t count() const;                   // numbers that are trained

    void known_to(Tape&);  // gradients of the next backward pass are added here
    void clear_gradients();
    void write_back(Context&);  // values into the model, after a step

    // The first layer of the tower that needs a gradient; -1: the embeddings, too; the number of
    // layers: none does.
    int64_t vision_from() const { return vision_from_; }
    bool projector() const { return projector_; }

  private:
    void add(Context&, const Parameter&, const Checkpoint&);

    InternVL& model_;
    std::vector<Trainable> all_;
    int64_t vision_from_;
    bool projector_ = false;
};

}  // namespace internvl
