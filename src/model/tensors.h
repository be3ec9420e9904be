#pragma once
#include <optional>
#include <string>
#include <vector>

#include "io/checkpoint.h"
#include "model/config.h"

namespace internvl {

enum class Part { vision, projector, language };

struct TensorSpec {
    std::string name;
    std::vector<int64_t> shape;
    Part part;
    std::optional<Role> role = {};  // of a product's weights
    bool optional = false;          // the head: the embedding serves where it is absent (spec 5)
};

// Every tensor that a checkpoint of this configuration holds, in the order in which the model uses
// them.
std::vector<TensorSpec> expected_tensors(const ModelConfig&);

// The names that a checkpoint goes by, where the configuration leaves open which of two.
Layout layout_of(const Checkpoint&, Layout configured);

// Throws one Error with all tensors that are missing, too many, or of another shape.
void check_tensors(const Checkpoint&, const ModelConfig&);

struct ParameterCount {
    int64_t vision = 0, projector = 0, language = 0, total = 0;
};
ParameterCount count_parameters(const ModelConfig&);

}  // namespace internvl
