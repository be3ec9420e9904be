#pragma once
#include <functional>
#include <string>
#include <vector>

#include "engine/prompt.h"
#include "internvl/internvl.h"
#include "tensor/tensor.h"

namespace internvl::cli {

// One traced tensor in fp32, rows contiguous.
struct Stage {
    std::string name;
    std::vector<int64_t> shape;
    std::vector<float> values;

    Stage(std::string stage, const View& view);
};

// What one traced pass is about.
struct StageInput {
    std::vector<Media> media;
    std::string prompt, system;
    bool raw = false;  // the prompt is the whole text; <image> marks stand for the pictures
    bool reference = false, last_logits = false;
};

// Runs it and shows every stage; returns the prompt as the model read it.
Prompt run_stages(Model&, const StageInput&,
                  const std::function<void(const std::string&, const View&)>& watch);
// The same for ids that are given.
void run_stages(Model&, const std::vector<Media>& media, std::span<const int> ids, bool last_logits,
                const std::function<void(const std::string&, const View&)>& watch);

}  // namespace internvl::cli
