#pragma once
#include <string>

#include "serve/settings.h"

namespace internvl {

// How `internvl serve` was called.
struct ServeCall {
    TypedSettings flags;
    std::string config_file;  // "" for none
    std::string version, commit;
};

// Serves until a signal ends it; the exit status: 0 orderly, 2 configuration, 3 model, 4 address in
// use, 70 internal, 130 at a second signal. Throws UsageError for what is wrong before it starts.
int serve(const ServeCall&);
// Loads what would be served, and says what is wrong with it.
int check_service(const ServeCall&);

}  // namespace internvl
