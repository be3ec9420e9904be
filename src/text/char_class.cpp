#include "text/char_class.h"

#include <utf8proc.h>

#include <cstdlib>
#include <new>
#include <vector>

#include "text/utf8.h"

namespace internvl {

static CharClass look_up(uint32_t c) {
    if (c == '\r' || c == '\n') return CharClass::newline;
    if (is_white_space(c)) return CharClass::space;
    switch (utf8proc_category(utf8proc_int32_t(c))) {
        case UTF8PROC_CATEGORY_LU:
        case UTF8PROC_CATEGORY_LL:
        case UTF8PROC_CATEGORY_LT:
        case UTF8PROC_CATEGORY_LM:
        case UTF8PROC_CATEGORY_LO:
            return CharClass::letter;
        case UTF8PROC_CATEGORY_ND:
        case UTF8PROC_CATEGORY_NL:
        case UTF8PROC_CATEGORY_NO:
            return CharClass::number;
        default:
            return CharClass::other;
    }
}

CharClass class_of(uint32_t c) {
    // The planes that text lives in, looked up once.
    static const std::vector<CharClass> table = [] {
        std::vector<CharClass> t(0x20000);
        for (uint32_t i = 0; i < t.size(); ++i) t[i] = look_up(i);
        return t;
    }();
    return c < table.size() ? table[c] : look_up(c);
}

// Starters that normal form C leaves alone and that never join what stands before them. They may
// join a mark that follows.
static bool is_inert(uint32_t c) {
    return c < 0x300 || (c >= 0x400 && c < 0x483) || (c >= 0x2010 && c <= 0x2027) ||
           (c >= 0x3000 && c <= 0x3029) || (c >= 0x3041 && c <= 0x3096) ||
           (c >= 0x309b && c <= 0x30ff) || (c >= 0x3400 && c <= 0x9fff) ||
           (c >= 0xac00 && c <= 0xd7a3) || (c >= 0xff01 && c <= 0xff60) ||
           (c >= 0x1f300 && c <= 0x1faff);
}

static void append_normalised(std::string_view text, std::string& out) {
    utf8proc_uint8_t* composed = nullptr;
    const auto flags = utf8proc_option_t(UTF8PROC_STABLE | UTF8PROC_COMPOSE);
    const utf8proc_ssize_t length =
        utf8proc_map(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                     utf8proc_ssize_t(text.size()), &composed, flags);
    if (length < 0) throw std::bad_alloc();  // the text is valid UTF-8: nothing else can go wrong
    out.append(reinterpret_cast<char*>(composed), size_t(length));
    std::free(composed);
}

// Most text is inert; only a run of other characters, with the inert one before it, needs the
// library.
std::string normalise_nfc(std::string_view text) {
    std::string out;
    out.reserve(text.size());
    size_t done = 0,
           previous = 0;  // text before `done` is in `out`; where the last character began
    for (size_t at = 0; at < text.size();) {
        if (uint8_t(text[at]) < 0x80) {
            previous = at++;
            continue;
        }
        CodePoint c = decode_at(text, at);
        if (is_inert(c.value)) {
            previous = at;
            at += size_t(c.bytes);
            continue;
        }
        const size_t begin = previous;
        while (!is_inert(c.value)) {
            at += size_t(c.bytes);
            if (at == text.size()) break;
            c = decode_at(text, at);
        }
        out += text.substr(done, begin - done);
        append_normalised(text.substr(begin, at - begin), out);
        done = previous = at;
    }
    out += text.substr(done);
    return out;
}

}  // namespace internvl
