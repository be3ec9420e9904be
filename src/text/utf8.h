#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace internvl {

// The code point at `text[at]` and its length in bytes; `valid` is false for a broken sequence,
// whose length is then that of the longest part that could have begun a character (what Python's
// errors="replace" turns into one U+FFFD).
struct CodePoint {
    uint32_t value;
    int bytes;
    bool valid;
};
CodePoint decode_slowly(std::string_view text, size_t at);
inline CodePoint decode_at(std::string_view text, size_t at) {
    const auto byte = [&](size_t i) { return uint32_t(uint8_t(text[at + i])); };
    if (byte(0) < 0x80) return {byte(0), 1, true};
    // The commonest three-byte leads, whose second byte is not restricted.
    if (byte(0) > 0xe0 && byte(0) < 0xed && at + 2 < text.size() && (byte(1) & 0xc0) == 0x80 &&
        (byte(2) & 0xc0) == 0x80)
        return {(byte(0) & 15) << 12 | (byte(1) & 63) << 6 | (byte(2) & 63), 3, true};
    return decode_slowly(text, at);
}
void append_utf8(uint32_t code_point, std::string& out);

// Every broken sequence becomes U+FFFD, as Python's bytes.decode(errors="replace").
std::string replace_invalid(std::string_view bytes);
bool is_valid_utf8(std::string_view bytes);
// Bytes at the end that begin a character but do not complete it (0 to 3).
size_t incomplete_tail(std::string_view bytes);

bool is_white_space(uint32_t code_point);  // the Unicode property White_Space
bool is_stripped(uint32_t code_point);     // what Python strips: white space, U+001C to U+001F
// Without white space at both ends, as Python's str.strip().
std::string strip(std::string_view text);

std::string replace_all(std::string_view text, std::string_view from, std::string_view to);

}  // namespace internvl
