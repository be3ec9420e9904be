#pragma once
#include <string>
#include <vector>

#include "io/checkpoint.h"
#include "model/config.h"

namespace internvl {

// How the files of one class of language model name its tensors: a row per class. `{}` is the
// layer; a list is one product cut into several tensors; an empty bias means none.
struct Family {
    std::string architecture;
    std::string embedding, final_norm, head;
    std::string attention_norm, mlp_norm;
    std::vector<std::string> qkv, qkv_bias;
    std::string out;
    std::vector<std::string> gate_up;
    std::string down;
};

const Family& find_family(
    const TextConfig&);  // throws Error that names the class and the known ones

std::string layer_name(const std::string& pattern, int64_t layer);

enum class Part { vision, projector, language };

struct TensorSpec {
    std::string name;
    std::vector<int64_t> shape;
    Part part;
    bool optional = false;  // the head: the embedding serves where it is absent (spec 5)
};

// Every tensor that a checkpoint of this configuration holds, in the order in which the model uses
// them.
std::vector<TensorSpec> expected_tensors(const ModelConfig&);

// Throws one Error with all tensors that are missing, too many, or of another shape.
void check_tensors(const Checkpoint&, const ModelConfig&);

struct ParameterCount {
    int64_t vision = 0, projector = 0, language = 0, total = 0;
};
ParameterCount count_parameters(const ModelConfig&);

}  // namespace internvl
