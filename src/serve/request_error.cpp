#include "serve/request_error.h"

namespace internvl {

RequestError::RequestError(std::string kind, std::string field, const std::string& message)
    : std::runtime_error(message), code(std::move(kind)), param(std::move(field)) {
    status = 400, type = "invalid_request_error";
    if (code == "invalid_api_key") status = 401, type = "authentication_error";
    if (code == "model_not_found" || code == "unknown_endpoint" || code == "unsupported_endpoint") status = 404;
    if (code == "method_not_allowed") status = 405;
    if (code == "unsupported_media_type") status = 415;
    if (code == "payload_too_large") status = 413;
    if (code == "header_too_large") status = 431;
    if (code == "host_not_allowed" || code == "origin_not_allowed" || code == "not_permitted")
        status = 403, type = "permission_error";
    if (code == "rate_limit_exceeded" || code == "queue_full") status = 429, type = "rate_limit_error";
    if (code == "model_loading" || code == "shutting_down" || code == "engine_unavailable") status = 503, type = "server_error";
    if (code == "deadline_exceeded") status = 504, type = "timeout_error";
    if (code == "internal_error") status = 500, type = "server_error";
}
nlohmann::ordered_json error_body(const RequestError& e) {
    return {{"error", {{"message", e.what()}, {"type", e.type}, {"param", e.param.empty() ? nlohmann::ordered_json() : nlohmann::ordered_json(e.param)}, {"code", e.code}}}};
}
std::vector<std::pair<std::string, std::string>> error_headers(const RequestError& e) {
    std::vector<std::pair<std::string, std::string>> h;
    if (e.status == 401) h.emplace_back("WWW-Authenticate", "Bearer");
    if (e.retry_after) h.emplace_back("Retry-After", std::to_string(*e.retry_after));
    if (e.status == 500 || e.status == 504) h.emplace_back("x-should-retry", "false");
    return h;
}
std::string shown(const nlohmann::json& value) {
    return value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace).substr(0, 64);
}
std::string shown(std::string_view text) { return shown(nlohmann::json(std::string(text))); }
void refuse(const char* code, const std::string& param, const std::string& message) { throw RequestError(code, param, message); }
}  // namespace internvl
