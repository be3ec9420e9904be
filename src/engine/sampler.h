#pragma once
#include <span>
#include <vector>

#include "internvl/options.h"

namespace internvl {

struct Candidate {
    int id;
    float probability;
};

// Chooses the next token from logits as transformers 4.37.2 does (spec 6.4, correction 9):
// processors first, then, when sampling, warpers in the library's order, then one draw.
class Sampler {
  public:
    // Throws UsageError for a value out of range. `start` is the token that the reference's
    // sequences begin with; it counts for the repetition penalty. `stop` is the token that ends an
    // answer.
    Sampler(const GenerateOptions&, int start, int stop);

    // logits [vocab]; history: the tokens generated so far. Not a number among the logits: an
    // Error.
    int next(std::span<const float> logits, std::span<const int> history);

    // Processed log-probabilities, [vocab], as beam search ranks them. Valid until the next call.
    std::span<const float> log_probabilities(std::span<const float> logits,
                                             std::span<const int> history);

    // Whether the token ends the answer.
    bool stops(int id) const;

    // What a draw at this point chooses from, by falling probability (ties by id).
    std::vector<Candidate> distribution(std::span<const float> logits,
                                        std::span<const int> history);

  private:
    void process(std::span<const int> history);
    void penalise(std::span<const int> history);
    void ban_stops(int made);
    void ban(std::span<const int> ids);
    void normalise();
    void ban_repeated_ngrams(std::span<const int> sequence);

    GenerateOptions options_;
    int start_, stop_;
    std::vector<float> scores_;  // [vocab]
};

// The random number in [0, 1) of a seed, which of its answers, and a position: the same wherever
// and whenever it is asked for.
double uniform_at(uint64_t seed, uint64_t choice, uint64_t index);

}  // namespace internvl
