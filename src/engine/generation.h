#pragma once
#include <chrono>
#include <exception>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/digest.h"
#include "internvl/options.h"
#include "media/tile.h"
#include "tensor/tensor.h"

namespace internvl {

struct Answer {
    std::vector<int> ids;  // the stop token included, as the reference keeps it
    enum class End { stop, length, cancelled, failed, deadline } end = End::length;
    std::exception_ptr error;  // of a failed one
    double score = 0;          // of the best beam: the sum of log-probabilities over length^penalty
    int cached_tokens = 0;     // of the prompt, whose keys and values were known
    // Tiles whose rows were known, or not needed because keys and values were; and those computed.
    int tiles_cached = 0, tiles_computed = 0;
    int preemptions = 0;
    // Wall clock, one after the other: until it had its turn, until its pictures were seen, until
    // its first token, until its end.
    double queue_ms = 0, vision_ms = 0, prefill_ms = 0, decode_ms = 0;
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
    // In place of `pictures`, for a StepLoop: pictures in the order of their places, which it shows
    // to the vision tower itself, as far as their rows are needed and not known. `unseen_keys`:
    // what each of their tiles shows (tile_key), absent or for every tile.
    std::vector<std::shared_ptr<const Tiles>> unseen = {};
    std::vector<DigestKey> unseen_keys = {};
    GenerateOptions options = {};
    std::string scope = {};  // results are shared only within equal scopes
    std::string queue = {};  // whose turn it is goes round these
    int priority = 0;        // lower first
    std::optional<std::chrono::steady_clock::time_point> deadline = {};
    // Further choices of a request, with the same prompt: the number (StepLoop::add) of the first
    // one, whose computed prompt they wait for and take over. 0: on its own.
    uint64_t sibling_of = 0;

    // Heard on the thread that computes. What these throw makes the answer fail.
    std::function<bool(int id)> on_token = {};  // false ends the answer; no stop token is shown
    std::function<void(std::span<const float>)> on_logits = {};  // [vocab] before each choice
    std::function<void(Answer)> on_end = {};                     // heard once, in a StepLoop
};

}  // namespace internvl
