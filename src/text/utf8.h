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
CodePoint decode_at(std::string_view text, size_t at);
void append_utf8(uint32_t code_point, std::string& out);

// Every broken sequence becomes U+FFFD, as Python's bytes.decode(errors="replace").
std::string replace_invalid(std::string_view bytes);
bool is_valid_utf8(std::string_view bytes);
// Bytes at the end that begin a character but do not complete it (0 to 3).
size_t incomplete_tail(std::string_view bytes);

bool is_white_space(uint32_t code_point);  // the Unicode property White_Space
// Without white space at both ends, as Python's str.strip().
std::string strip(std::string_view text);

}  // namespace internvl
