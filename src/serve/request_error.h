#pragma once
#include <optional>
#include <stdexcept>
#include <string>
#include <utility>
#include <vector>

#include "base/json.h"

namespace internvl {

// A request that cannot be answered as it stands (api.md 3.4, 3.5). Status and type follow from the
// code. The message is all that a client's user sees: what, expected, found.
struct RequestError : std::runtime_error {
    RequestError(std::string code, std::string param, const std::string& message);

    std::string code, param;  // param: the field, "" for none
    std::string type;
    int status;
    std::optional<int> retry_after = {};  // seconds
};

nlohmann::ordered_json error_body(const RequestError&);
// Retry-After, x-should-retry and WWW-Authenticate, as the error wants them.
std::vector<std::pair<std::string, std::string>> error_headers(const RequestError&);

// A value of a request as messages may show it: escaped, at most 64 characters.
std::string shown(const nlohmann::json& value);
std::string quoted(std::string_view text);

[[noreturn]] void refuse(const char* code, const std::string& param, const std::string& message);

}  // namespace internvl
