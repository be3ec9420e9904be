#include "text/stream_decoder.h"

#include <utility>

#include "text/utf8.h"

namespace internvl {

std::string StreamDecoder::push(int id) {
    pending_ += tokenizer_.token_bytes(id, skip_special_);
    const size_t held = incomplete_tail(pending_);
    std::string ready =
        replace_invalid(std::string_view(pending_).substr(0, pending_.size() - held));
    pending_.erase(0, pending_.size() - held);
    return ready;
}

std::string StreamDecoder::finish() {
    return replace_invalid(std::exchange(pending_, {}));
}

}  // namespace internvl
