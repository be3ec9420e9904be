#pragma once
#include <vector>

namespace internvl {

constexpr int ignored_label = -100;

// Tokens of one conversation; its pictures stand at <IMG_CONTEXT> tokens.
struct Sample {
    std::vector<int> ids;
    std::vector<int>
        labels;              // [ids]: the token itself where it is to be learnt, else ignored_label
    int first_position = 0;  // of the first token; not 0 for what was cut off another sample
};

}  // namespace internvl
