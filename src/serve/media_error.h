#pragma once
#include <string>
#include <variant>

#include "serve/media_part.h"

namespace internvl {

// Why a picture or video is not taken: what the client is told (api.md 3.5). The message stands
// alone and holds no path, address or library's text.
struct MediaError {
    int status = 400;
    std::string code, message;
    std::string param = {};  // the part it belongs to, if to one
};

template <class T>
using MediaResult = std::variant<T, MediaError>;

}  // namespace internvl
