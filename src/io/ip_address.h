#pragma once
#include <array>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace internvl {

// An address of the internet protocol, version 4 or 6.
struct IpAddress {
    std::array<uint8_t, 16> bytes{};  // version 4: the first four
    bool v6 = false;

    // Canonical dotted quad, or version 6 without brackets and zone. Nothing else.
    static std::optional<IpAddress> parse(std::string_view text);
    std::string text() const;
    // The IPv4 address that this one carries (::ffff:a.b.c.d, ::a.b.c.d, 64:ff9b::a.b.c.d), or
    // itself.
    IpAddress unwrapped() const;
    bool operator==(const IpAddress&) const = default;
};

// Addresses with equal first bits: 10.0.0.0/8, fd00::/8.
struct AddressBlock {
    IpAddress base;
    int bits = 0;

    static std::optional<AddressBlock> parse(std::string_view text);
    bool contains(const IpAddress&) const;
};

// Whether strangers may have us connect there: the public internet, without what is reserved,
// private, local or for many (api.md 4.3.4), and what `allowed` adds.
bool may_connect(const IpAddress&, const std::vector<AddressBlock>& allowed);

}  // namespace internvl
