#pragma once
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace internvl {

// The one door for JSON from outside: UTF-8, no key twice in one object, at most 64 levels deep.
// Throws Error.
nlohmann::json parse_json(std::string_view text, const std::string& where);

}  // namespace internvl
