#include "serve/request_error.h"

#include <algorithm>

namespace internvl {

using nlohmann::json;

namespace {

// The table of api.md 3.5; a code that is not here is a 400.
struct Row {
    std::string_view code;
    int status;
    const char* type;
};
constexpr const char* invalid = "invalid_request_error";
constexpr Row rows[] = {
    {"unsupported_media_type", 415, invalid},
    {"model_not_found", 404, invalid},
    {"unknown_endpoint", 404, invalid},
    {"unsupported_endpoint", 404, invalid},
    {"method_not_allowed", 405, invalid},
    {"header_too_large", 431, invalid},
    {"payload_too_large", 413, invalid},
    {"invalid_api_key", 401, "authentication_error"},
    {"not_permitted", 403, "permission_error"},
    {"host_not_allowed", 403, "permission_error"},
    {"origin_not_allowed", 403, "permission_error"},
    {"rate_limit_exceeded", 429, "rate_limit_error"},
    {"queue_full", 429, "rate_limit_error"},
    {"deadline_exceeded", 504, "timeout_error"},
    {"model_loading", 503, "server_error"},
    {"shutting_down", 503, "server_error"},
    {"engine_unavailable", 503, "server_error"},
    {"internal_error", 500, "server_error"},
};

// Cut to 64 characters, not in the middle of one.
std::string cut(std::string text) {
    size_t characters = 0;
    for (size_t i = 0; i < text.size(); ++i)
        if ((uint8_t(text[i]) & 0xc0) != 0x80 && ++characters > 64)
            return text.substr(0, i) + "...";
    return text;
}

}  // namespace

RequestError::RequestError(std::string kind, std::string field, const std::string& message)
    : std::runtime_error(message), code(std::move(kind)), param(std::move(field)) {
    const auto row = std::ranges::find(rows, std::string_view(code), &Row::code);
    const bool found = row != std::end(rows);
    status = found ? row->status : 400;
    type = found ? row->type : invalid;
    if (code == "engine_unavailable") retry_after = 10;
    if (status == 429 || (status == 503 && !retry_after)) retry_after = 1;
}

nlohmann::ordered_json error_body(const RequestError& e) {
    using Json = nlohmann::ordered_json;
    return {{"error",
             {{"message", e.what()},
              {"type", e.type},
              {"param", e.param.empty() ? Json() : Json(e.param)},
              {"code", e.code}}}};
}

std::vector<std::pair<std::string, std::string>> error_headers(const RequestError& e) {
    std::vector<std::pair<std::string, std::string>> headers;
    if (e.retry_after)
        headers.emplace_back("Retry-After", std::to_string(std::clamp(*e.retry_after, 1, 60)));
    // What is full or not ready yet may be asked again; nothing else gets better by repeating.
    if (e.status != 429 && e.status != 503) headers.emplace_back("x-should-retry", "false");
    if (e.status == 401) headers.emplace_back("WWW-Authenticate", "Bearer");
    return headers;
}

std::string shown(const json& value) {
    if (value.is_object()) return "an object";
    if (value.is_array()) return "a list of " + std::to_string(value.size());
    return cut(value.dump(-1, ' ', true, json::error_handler_t::replace));
}

std::string quoted(std::string_view text) {
    return shown(json(std::string(text.substr(0, 512))));
}

void refuse(const char* code, const std::string& param, const std::string& message) {
    throw RequestError(code, param, message);
}

}  // namespace internvl
