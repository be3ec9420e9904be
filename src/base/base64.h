#pragma once
#include <cstddef>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace internvl {

// The bytes of base64 text in the standard alphabet: ASCII white space is skipped, padding may be
// absent. None when it is malformed.
std::optional<std::vector<std::byte>> decode_base64(std::string_view text);
std::string encode_base64(std::string_view bytes);  // with padding

}  // namespace internvl
