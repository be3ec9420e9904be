#pragma once
#include <exception>
#include <functional>
#include <span>
#include <vector>

#include "base/digest.h"
#include "internvl/options.h"
#include "tensor/tensor.h"

namespace internvl {

struct Answer {
    std::vector<int> ids;  // the stop token included, as the reference keeps it
    enum class End { stop, length, cancelled, failed } end = End::length;
    std::exception_ptr error;  // of a failed one
    double score = 0;          // of the best beam: the sum of log-probabilities over length^penalty
    int cached_tokens = 0;     // of the prompt, whose keys and values were known
    double prefill_ms = 0, decode_ms = 0;
};

// Pictures as the language model sees them.
struct PictureRows {
    Tensor rows;                  // [tiles*256, width], absent without pictures
    std::vector<DigestKey> keys;  // what each tile shows
    int computed = 0;             // tiles that had to pass through the vision tower
};

// An answer in the making: what to compute, and who hears of it.
struct Generation {
    std::vector<int> prompt;  // ids
    PictureRows pictures;     // a row for each place
    GenerateOptions options;
    std::function<bool(int id)> on_token;  // false ends the answer; the stop token is not shown
    std::function<void(std::span<const float>)> on_logits;  // [vocab] before each choice
    std::function<void(Answer)> on_end;                     // heard once, in a StepLoop
};

}  // namespace internvl
