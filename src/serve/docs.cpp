#include "serve/docs.h"

#include <fmt/format.h>

namespace internvl {

static std::string escaped(const std::string& text) {
    std::string out;
    for (const char c : text)
        out += c == '<' ? "&lt;" : c == '>' ? "&gt;" : c == '&' ? "&amp;" : std::string(1, c);
    return out;
}

// Settings that say something of this machine or of who may do what are not told.
static bool is_told(const Setting& s) {
    const std::string group = s.group;
    return group == "HTTP" || group == "Answers" || group == "Scheduling" ||
           (group == "Media" && std::holds_alternative<int64_t*>(s.value));
}

std::string docs_page(Settings settings) {
    settings.system_prompt.clear();
    std::string rows;
    for (const Setting& s : all_settings(settings)) {
        if (!is_told(s)) continue;
        std::string value;
        if (auto* flag = std::get_if<bool*>(&s.value)) value = **flag ? "on" : "off";
        if (auto* whole = std::get_if<int64_t*>(&s.value)) value = std::to_string(**whole);
        if (auto* real = std::get_if<double*>(&s.value)) value = fmt::format("{}", **real);
        if (auto* word = std::get_if<std::string*>(&s.value)) value = **word;
        rows += fmt::format("<tr><td>{}<td>{}<td>{}\n", s.name, escaped(value), escaped(s.help));
    }
    return "<!doctype html><html lang=en><meta charset=utf-8><title>InternVL service</title>\n"
           "<h1>InternVL service</h1>\n"
           "<p>The interface of OpenAI: POST <code>/v1/chat/completions</code>, "
           "<code>/v1/completions</code>; GET <code>/v1/models</code>. Besides: POST "
           "<code>/tokenize</code>, <code>/detokenize</code>, <code>/v1/estimate</code>; GET "
           "<code>/health</code>, <code>/livez</code>, <code>/readyz</code>, "
           "<code>/metrics</code>, "
           "<code>/version</code>. All fields with their ranges: <a "
           "href=openapi.json>openapi.json</a>. To try it: <a href=/>the page</a>.\n"
           "<h2>Limits</h2>\n<table><tr><th>setting<th>value<th>what it does\n" +
           rows + "</table></html>\n";
}

}  // namespace internvl
