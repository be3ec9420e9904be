#pragma once
#include <stdexcept>
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

// A MediaError on its way up.
struct MediaRefused : std::runtime_error {
    explicit MediaRefused(MediaError e) : std::runtime_error(e.message), error(std::move(e)) {}
    MediaError error;
};

enum class MediaFailure {
    bad_url,      // malformed, or a scheme that is not taken
    not_allowed,  // one text for every reason
    not_fetched,  // by the other side
    bad_base64,
    not_permitted,  // file: with a key that may not
    unsupported,
    damaged,
    too_large,
    too_slow,
    no_room,  // too many at once
    cancelled,
    internal,
};

// The words for a failure; `detail` replaces the usual text where there is more to say.
MediaError media_error(const MediaPart&, MediaFailure, const std::string& detail = {});

}  // namespace internvl
