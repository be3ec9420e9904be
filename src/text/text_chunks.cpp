#include "text/text_chunks.h"

#include <utility>

#include "text/utf8.h"

namespace internvl {

static bool is_chinese(uint32_t c) {
    return (c >= 0x4e00 && c <= 0x9fff) || (c >= 0x3400 && c <= 0x4dbf) ||
           (c >= 0x20000 && c <= 0x2a6df) || (c >= 0x2a700 && c <= 0x2b73f) ||
           (c >= 0x2b740 && c <= 0x2b81f) || (c >= 0x2b820 && c <= 0x2ceaf) ||
           (c >= 0xf900 && c <= 0xfaff) || (c >= 0x2f800 && c <= 0x2fa1f);
}

static size_t count_characters(std::string_view text) {
    size_t count = 0;
    for (const char byte : text) count += (uint8_t(byte) & 0xc0) != 0x80;
    return count;
}

// `text` without its first `characters`, which are counted down.
static std::string_view drop_front(std::string_view text, size_t& characters) {
    while (characters > 0 && !text.empty()) {
        text.remove_prefix(size_t(decode_at(text, 0).bytes));
        --characters;
    }
    return text;
}

static uint32_t last_character(std::string_view text) {
    if (text.empty()) return 0;
    size_t at = text.size() - 1;
    while (at > 0 && (uint8_t(text[at]) & 0xc0) == 0x80) --at;
    return decode_at(text, at).value;
}

std::string TextChunks::put(int id) {
    const std::string settled = decoder_.push(id);
    if (!settled.empty()) last_ = last_character(settled);
    unshown_ += drop_front(settled, ahead_);
    // What the text would end with if no more came.
    const std::string open = StreamDecoder(decoder_).finish();
    size_t ahead = ahead_;
    const std::string_view rest = drop_front(open, ahead);
    const uint32_t last = open.empty() ? last_ : last_character(open);
    if (last == '\n') {
        decoder_.finish();
        ahead_ = 0;
        last_ = 0;
        return std::exchange(unshown_, {}).append(rest);
    }
    if (is_chinese(last)) {
        ahead_ += count_characters(rest);
        return std::exchange(unshown_, {}).append(rest);
    }
    if (const size_t blank = rest.rfind(' '); blank != rest.npos) {
        const std::string_view shown = rest.substr(0, blank + 1);
        ahead_ += count_characters(shown);
        return std::exchange(unshown_, {}).append(shown);
    }
    const size_t blank = unshown_.rfind(' ');
    if (blank == unshown_.npos) return {};
    std::string chunk = unshown_.substr(0, blank + 1);
    unshown_.erase(0, blank + 1);
    return chunk;
}

std::string TextChunks::end() {
    const std::string open = decoder_.finish();
    std::string chunk = std::exchange(unshown_, {});
    chunk += drop_front(open, ahead_);
    ahead_ = 0;
    last_ = 0;
    return chunk;
}

}  // namespace internvl
