#pragma once
#include "cli/common.h"

namespace internvl::cli {

struct InteractiveOptions {
    ChatOptions chat;
    GenerateOptions generate;
    MediaFlags media;  // its files are for the first question
};

// A conversation on the terminal until the user leaves; returns the exit status. Ctrl-C stops an
// answer.
int talk(Model&, const InteractiveOptions&);

}  // namespace internvl::cli
