// The pre-tokenizer's pattern as a scanner. Alternatives are tried in the pattern's order at each
// place.
#include <array>

#include "text/byte_bpe.h"
#include "text/char_class.h"
#include "text/utf8.h"

namespace internvl {

namespace {

struct Char {
    CharClass kind;
    uint32_t value;
    size_t end;  // where the next character begins
};

const std::array<CharClass, 128> ascii_class = [] {
    std::array<CharClass, 128> table;
    for (uint32_t c = 0; c < 128; ++c) table[c] = class_of(c);
    return table;
}();

Char char_at(std::string_view text, size_t at) {
    if (const uint8_t byte = uint8_t(text[at]); byte < 0x80)
        return {ascii_class[byte], byte, at + 1};
    const CodePoint c = decode_at(text, at);
    return {class_of(c.value), c.value, at + size_t(c.bytes)};
}

template <class Want>
size_t run_end(std::string_view text, size_t at, Want want) {
    while (at < text.size()) {
        const Char c = char_at(text, at);
        if (!want(c.kind)) break;
        at = c.end;
    }
    return at;
}

// At most `digits` numerals, of which the first ends at `at`.
size_t numerals_end(std::string_view text, size_t at, int digits) {
    for (int i = 1; i < digits && at < text.size(); ++i) {
        const Char c = char_at(text, at);
        if (c.kind != CharClass::number) break;
        at = c.end;
    }
    return at;
}

bool is_letter(CharClass k) {
    return k == CharClass::letter;
}
bool is_space(CharClass k) {
    return k == CharClass::space || k == CharClass::newline;
}
bool is_newline(CharClass k) {
    return k == CharClass::newline;
}
bool is_other(CharClass k) {
    return k == CharClass::other;
}

// 's 't 're 've 'm 'll 'd after the apostrophe at text[at - 1], in any case; or `at - 1` when it is
// none. The long s (U+017F) is an s to a pattern that ignores case.
size_t contraction_end(std::string_view text, size_t at) {
    const auto lower = [&](size_t i) { return i < text.size() ? char(text[i] | 0x20) : '\0'; };
    const char first = lower(at), second = lower(at + 1);
    if (text.substr(at, 2) == "\xc5\xbf") return at + 2;
    if (first == 's' || first == 't' || first == 'm' || first == 'd') return at + 1;
    if ((first == 'r' || first == 'v') && second == 'e') return at + 2;
    if (first == 'l' && second == 'l') return at + 2;
    return at - 1;
}

// White space that begins at `at`: up to its last line break; else all of it at the end of the
// text; else all but its last character, which belongs to the next word.
size_t space_end(std::string_view text, size_t at) {
    size_t after_newline = at, last = at, end = at;
    while (end < text.size()) {
        const Char c = char_at(text, end);
        if (!is_space(c.kind)) break;
        last = end;
        end = c.end;
        if (is_newline(c.kind)) after_newline = end;
    }
    if (after_newline > at) return after_newline;
    return end == text.size() || last == at ? end : last;
}

}  // namespace

size_t word_end(std::string_view text, size_t at, int digits) {
    const Char c = char_at(text, at);
    if (c.value == '\'')
        if (const size_t end = contraction_end(text, c.end); end > at) return end;
    if (is_letter(c.kind)) return run_end(text, c.end, is_letter);
    if (c.kind == CharClass::number) return numerals_end(text, c.end, digits);
    const bool more = c.end < text.size();
    const Char next = more ? char_at(text, c.end) : c;
    if (!is_newline(c.kind) && more && is_letter(next.kind))
        return run_end(text, next.end, is_letter);
    if (is_other(c.kind) || (c.value == ' ' && more && is_other(next.kind)))
        return run_end(text, run_end(text, c.end, is_other), is_newline);
    return space_end(text, at);
}

}  // namespace internvl
