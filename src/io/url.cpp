#include "io/url.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

namespace internvl {
namespace {

bool is_digit(char c) {
    return c >= '0' && c <= '9';
}

std::string lower(std::string_view text) {
    std::string out(text);
    for (char& c : out)
        if (c >= 'A' && c <= 'Z') c = char(c - 'A' + 'a');
    return out;
}

bool is_label(std::string_view label) {
    return !label.empty() && label.size() <= 63 && label.front() != '-' && label.back() != '-' &&
           std::ranges::all_of(label, [](char c) {
               return (c >= 'a' && c <= 'z') || is_digit(c) || c == '-' || c == '_';
           });
}

// A last label that some program would read as a number, and so the host as an address: 1, 0x7f.
bool is_number(std::string_view label) {
    if (label.starts_with("0x")) return true;
    return std::ranges::all_of(label, is_digit);
}

bool is_name(std::string_view host) {
    if (host.empty() || host.size() > 253) return false;
    std::string_view label;
    for (size_t at = 0; at <= host.size();) {
        const size_t dot = std::min(host.find('.', at), host.size());
        label = host.substr(at, dot - at);
        if (!is_label(label)) return false;
        at = dot + 1;
    }
    return !is_number(label);
}

std::optional<uint16_t> parse_port(std::string_view text) {
    uint16_t port = 0;
    const auto [end, error] = std::from_chars(text.begin(), text.end(), port);
    if (error != std::errc() || end != text.end() || port == 0 || text.front() == '0')
        return std::nullopt;
    return port;
}

// Host and port into `url`; false when they cannot be read in one way only.
bool read_authority(std::string_view text, Url& url) {
    url.port = url.https ? 443 : 80;
    const bool bracketed = text.starts_with('[');
    const size_t end = bracketed ? text.find(']') : std::min(text.find(':'), text.size());
    if (end == text.npos) return false;
    url.host = lower(text.substr(bracketed, end - bracketed));
    const std::string_view rest = text.substr(end + bracketed);
    if (!rest.empty()) {
        const auto port = rest.front() == ':' ? parse_port(rest.substr(1)) : std::nullopt;
        if (!port) return false;
        url.port = *port;
    }
    url.address = IpAddress::parse(url.host);
    if (url.address && url.address->v6 == bracketed) return true;
    if (url.address || bracketed) return false;
    if (url.host.ends_with('.')) url.host.pop_back();  // the same name
    return is_name(url.host);
}

// The path and query as they are sent: what is not ASCII is escaped, the fragment dropped.
std::string target_of(std::string_view text) {
    text = text.substr(0, text.find('#'));
    std::string target = text.starts_with('/') ? "" : "/";
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        if (byte < 0x80)
            target += c;
        else
            target += fmt::format("%{:02X}", byte);
    }
    return target;
}

// Length in bytes of the scheme that the text begins with, the colon not counted; 0 when none does.
size_t scheme_size(std::string_view text) {
    const size_t colon = text.find(':');
    if (colon == text.npos || colon == 0 || is_digit(text.front())) return 0;
    const bool word = std::ranges::all_of(text.substr(0, colon), [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || is_digit(c) || c == '+' ||
               c == '-' || c == '.';
    });
    return word ? colon : 0;
}

bool matches(const std::string& host, const std::string& pattern) {
    const std::string wanted = lower(pattern);
    if (wanted.starts_with("*.")) return host.ends_with(wanted.substr(1));
    return host == wanted;
}

}  // namespace

std::optional<Url> Url::parse(std::string_view text) {
    const auto odd = [](char c) {
        const auto byte = static_cast<unsigned char>(c);
        return byte <= 0x20 || byte == 0x7F || c == '\\';
    };
    if (text.size() > longest_url || std::ranges::any_of(text, odd)) return std::nullopt;
    Url url;
    const std::string scheme = lower(text.substr(0, scheme_size(text)));
    url.https = scheme == "https";
    if (!url.https && scheme != "http") return std::nullopt;
    text.remove_prefix(scheme.size() + 1);
    if (!text.starts_with("//")) return std::nullopt;
    text.remove_prefix(2);
    const size_t end = std::min(text.find_first_of("/?#"), text.size());
    const std::string_view authority = text.substr(0, end);
    if (authority.find('@') != authority.npos || !read_authority(authority, url))
        return std::nullopt;
    url.target = target_of(text.substr(end));
    return url;
}

std::string Url::authority() const {
    const bool usual = port == (https ? 443 : 80);
    const std::string name = address && address->v6 ? fmt::format("[{}]", host) : host;
    return usual ? name : fmt::format("{}:{}", name, port);
}

std::string Url::text() const {
    return fmt::format("{}://{}{}", https ? "https" : "http", authority(), target);
}

std::optional<Url> follow(const Url& base, std::string_view location) {
    if (scheme_size(location) > 0) return Url::parse(location);
    const char* scheme = base.https ? "https" : "http";
    const std::string root = fmt::format("{}://{}", scheme, base.authority());
    const std::string here = base.target.substr(0, base.target.find('?'));
    if (location.starts_with("//")) return Url::parse(fmt::format("{}:{}", scheme, location));
    if (location.starts_with('/')) return Url::parse(root + std::string(location));
    if (location.empty() || location.starts_with('#')) return base;
    if (location.starts_with('?')) return Url::parse(root + here + std::string(location));
    return Url::parse(root + here.substr(0, here.rfind('/') + 1) + std::string(location));
}

bool UrlRules::admit(const Url& url) const {
    if (schemes == Schemes::off || (schemes == Schemes::https && !url.https)) return false;
    const bool usual = url.port == (url.https ? 443 : 80);
    if (!usual && std::ranges::find(ports, url.port) == ports.end()) return false;
    const auto named = [&](const std::string& pattern) { return matches(url.host, pattern); };
    if (std::ranges::any_of(deny, named)) return false;
    return allow.empty() || std::ranges::any_of(allow, named);
}

bool is_host_pattern(std::string_view text) {
    const std::string name = lower(text.starts_with("*.") ? text.substr(2) : text);
    return is_name(name) || (name.size() == text.size() && IpAddress::parse(name));
}

}  // namespace internvl
