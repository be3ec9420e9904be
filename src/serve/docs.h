#pragma once
#include <string>

#include "serve/settings.h"

namespace internvl {

// The page for people who write clients: where everything is, and all limits as they are set.
std::string docs_page(Settings);

}  // namespace internvl
