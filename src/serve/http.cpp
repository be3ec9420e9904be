#include "serve/http.h"

#include <algorithm>
#include <random>

namespace internvl {

static char lower(char c) {
    return c >= 'A' && c <= 'Z' ? char(c + 32) : c;
}

bool equal_ignoring_case(std::string_view a, std::string_view b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(),
                      [](char x, char y) { return lower(x) == lower(y); });
}

std::string_view RequestHead::header(std::string_view name) const {
    for (const auto& [key, value] : headers)
        if (equal_ignoring_case(key, name)) return value;
    return {};
}

bool RequestHead::has(std::string_view name) const {
    return std::any_of(headers.begin(), headers.end(),
                       [&](const auto& h) { return equal_ignoring_case(h.first, name); });
}

static int hex_digit(char c) {
    if (c >= '0' && c <= '9') return c - '0';
    c = lower(c);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

// `strict`: a broken escape, or a zero byte, makes it false.
static bool unescape(std::string_view text, bool plus_is_space, std::string& out) {
    bool clean = true;
    for (size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        if (c == '%' && i + 2 < text.size() && hex_digit(text[i + 1]) >= 0 &&
            hex_digit(text[i + 2]) >= 0) {
            out += char(hex_digit(text[i + 1]) * 16 + hex_digit(text[i + 2]));
            clean &= out.back() != '\0';
            i += 2;
        } else {
            clean &= c != '%';
            out += plus_is_space && c == '+' ? ' ' : c;
        }
    }
    return clean;
}

std::string unescape_url(std::string_view text, bool plus_is_space) {
    std::string out;
    unescape(text, plus_is_space, out);
    return out;
}

bool split_target(RequestHead& head) {
    std::string_view target = head.target;
    if (const size_t hash = target.find('#'); hash != target.npos) target = target.substr(0, hash);
    const size_t mark = target.find('?');
    head.query = mark == target.npos ? "" : std::string(target.substr(mark + 1));
    head.path.clear();
    return target.starts_with('/') && unescape(target.substr(0, mark), false, head.path);
}

std::vector<std::pair<std::string, std::string>> query_pairs(std::string_view query) {
    std::vector<std::pair<std::string, std::string>> pairs;
    while (!query.empty()) {
        const size_t end = query.find('&');
        const std::string_view pair = query.substr(0, end);
        const size_t equals = pair.find('=');
        if (!pair.empty())
            pairs.emplace_back(
                unescape_url(pair.substr(0, equals), true),
                equals == pair.npos ? "" : unescape_url(pair.substr(equals + 1), true));
        query = end == query.npos ? std::string_view() : query.substr(end + 1);
    }
    return pairs;
}

const char* reason_phrase(int status) {
    switch (status) {
        case 100:
            return "Continue";
        case 200:
            return "OK";
        case 204:
            return "No Content";
        case 304:
            return "Not Modified";
        case 400:
            return "Bad Request";
        case 401:
            return "Unauthorized";
        case 403:
            return "Forbidden";
        case 404:
            return "Not Found";
        case 405:
            return "Method Not Allowed";
        case 408:
            return "Request Timeout";
        case 413:
            return "Content Too Large";
        case 415:
            return "Unsupported Media Type";
        case 429:
            return "Too Many Requests";
        case 431:
            return "Request Header Fields Too Large";
        case 500:
            return "Internal Server Error";
        case 503:
            return "Service Unavailable";
        case 504:
            return "Gateway Timeout";
        default:
            return "Unknown";
    }
}

std::string_view usable_request_id(std::string_view id) {
    const auto allowed = [](char c) {
        return (lower(c) >= 'a' && lower(c) <= 'z') || (c >= '0' && c <= '9') || c == '.' ||
               c == '_' || c == '-';
    };
    const bool usable =
        !id.empty() && id.size() <= 128 && std::all_of(id.begin(), id.end(), allowed);
    return usable ? id : std::string_view();
}

std::string random_id(int digits) {
    thread_local std::random_device source;
    std::string id;
    uint32_t bits = 0;
    for (int i = 0; i < digits; ++i) {
        if (i % 8 == 0) bits = source();
        id += "0123456789abcdef"[bits >> (i % 8 * 4) & 15];
    }
    return id;
}

}  // namespace internvl
