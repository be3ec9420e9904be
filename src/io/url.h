#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "io/ip_address.h"

namespace internvl {

// A web address taken apart: http or https, nothing else.
struct Url {
    bool https = false;
    std::string host;                  // lower case; a literal address as it was written, no []
    std::optional<IpAddress> address;  // when the host is one
    uint16_t port = 0;
    std::string target;  // path and query, from the first slash on; no fragment

    // The strict reading of api.md 4.3.1: none for whatever two programs could read differently.
    static std::optional<Url> parse(std::string_view text);
    std::string text() const;
    std::string authority() const;  // host, in [] where due, and port
};

constexpr size_t longest_url = 2048;  // bytes

// Where `location`, absolute or relative, leads from `base`. None when it cannot be read.
std::optional<Url> follow(const Url& base, std::string_view location);

// Which web addresses are fetched (api.md 4.3.2).
struct UrlRules {
    enum class Schemes { all, https, off } schemes = Schemes::all;
    std::vector<uint16_t> ports = {};  // besides 443 for https and 80 for http
    std::vector<std::string> allow = {},
                             deny = {};  // names, or *.suffix; with `allow` nothing else passes

    bool admit(const Url&) const;
};

// A name as --media-allow-host and --media-deny-host take it: exact, or *.suffix.
bool is_host_pattern(std::string_view);

}  // namespace internvl
