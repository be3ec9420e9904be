#pragma once
// Bodies of requests, and what becomes of them.
#include "serve/chat_request.h"
#include "serve/completions_request.h"
#include "support.h"

namespace internvl {

using nlohmann::json;

inline RequestDefaults test_defaults() {
    RequestDefaults d = service_defaults();
    d.limits.vocabulary = 1000;
    d.limits.image_ids = {5, 6, 7};
    return d;
}

inline json chat_body(const json& content = "Hello") {
    return {{"model", "m"}, {"messages", {{{"role", "user"}, {"content", content}}}}};
}
inline json text_part(const std::string& text) {
    return {{"type", "text"}, {"text", text}};
}
inline json image_part(const json& spec = {{"url", "data:image/png;base64,AAAA"}}) {
    return {{"type", "image_url"}, {"image_url", spec}};
}
inline json video_part(json spec = json::object()) {
    spec["url"] = "https://example.com/a.mp4";
    return {{"type", "video_url"}, {"video_url", spec}};
}

inline ChatRequest parse(const json& body, const RequestDefaults& defaults = test_defaults()) {
    std::vector<std::string> ignored;
    return parse_chat_request(body, defaults, ignored);
}

// "code param" of the refusal, "" when the body is taken.
inline std::string refusal(const json& body, const RequestDefaults& defaults = test_defaults()) {
    try {
        parse(body, defaults);
    } catch (const RequestError& e) {
        EXPECT_EQ(e.status, e.code == "model_not_found" ? 404 : 400);
        EXPECT_FALSE(std::string(e.what()).empty());
        return e.code + " " + e.param;
    }
    return "";
}

inline std::string completions_refusal(const json& body) {
    try {
        std::vector<std::string> ignored;
        parse_completions_request(body, test_defaults(), ignored);
    } catch (const RequestError& e) {
        return e.code + " " + e.param;
    }
    return "";
}

}  // namespace internvl
