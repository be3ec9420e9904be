#pragma once
#include <utility>

#include "base/error.h"

namespace internvl {

// Why a picture or clip is not taken, for those who word it by kind.
struct MediaFault : Error {
    enum class Kind { unsupported, damaged, too_large };
    template <class... Parts>
    explicit MediaFault(Kind why, Parts&&... parts)
        : Error(std::forward<Parts>(parts)...), kind(why) {}
    Kind kind;
};

}  // namespace internvl
