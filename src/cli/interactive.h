#pragma once
#include <string>
#include <vector>

#include "internvl/internvl.h"

namespace internvl::cli {

struct InteractiveOptions {
    ChatOptions chat;
    GenerateOptions generate;
    ImageOptions image;
    std::vector<std::string> images;  // for the first question
};

// A conversation on the terminal until the user leaves; returns the exit status. Ctrl-C stops an
// answer.
int talk(Model&, const InteractiveOptions&);

}  // namespace internvl::cli
