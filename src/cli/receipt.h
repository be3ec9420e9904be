#pragma once
#include <string>
#include <vector>

#include "internvl/internvl.h"

namespace internvl::cli {

// What the receipt of a quantised folder is measured on: questions that are answered once by the
// model as it was.
std::vector<Dialogue> builtin_sample();
// Requests as `batch` takes them, of one question each.
std::vector<Dialogue> read_sample(const std::string& file);

// A sample as the model answered it, with the stages on the way.
struct Recording {
    std::vector<int> ids;                                            // prompt and answer
    size_t answer = 0;                                               // where the answer begins
    std::vector<std::pair<std::string, std::vector<float>>> layers;  // "vision/block0", rows
    std::vector<float> logits;                                       // [answer tokens, vocab]
};
std::vector<Recording> record(Model&, const std::vector<Dialogue>&);

// The same prompts and answers, seen by the quantised model.
struct Likeness {
    struct Layer {
        std::string stage;
        double relative_rms;  // of the layer's output, over the whole sample
    };
    std::vector<Layer> layers;
    int64_t tokens = 0, agree = 0;  // of the answers; where its own choice would be the same
    double kl = 0;                  // nats for each of them
};
Likeness compare(Model& quantised, const std::vector<Dialogue>&, const std::vector<Recording>&);

}  // namespace internvl::cli
