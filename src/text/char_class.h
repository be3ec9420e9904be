#pragma once
#include <cstdint>
#include <string>
#include <string_view>

namespace internvl {

enum class CharClass : uint8_t { other, letter, number, space, newline };

// What the pre-tokenizer's pattern asks of a code point: \p{L}, \p{N}, \s (newline: \r and \n,
// which are \s too).
CharClass class_of(uint32_t code_point);

// Unicode normal form C. The text must be valid UTF-8.
std::string normalise_nfc(std::string_view text);

}  // namespace internvl
