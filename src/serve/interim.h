#pragma once
#include <string_view>

#include "base/json.h"

namespace internvl {
nlohmann::json parse_request_json(std::string_view body);
}  // namespace internvl
