#include "io/ip_address.h"

#include <arpa/inet.h>

#include <algorithm>
#include <charconv>

namespace internvl {
namespace {

// The first `count` bytes, then zeros.
IpAddress v6_with(std::initializer_list<uint8_t> head) {
    IpAddress address;
    address.v6 = true;
    size_t at = 0;
    for (const uint8_t byte : head) address.bytes[at++] = byte;
    return address;
}

bool begins_with(const IpAddress& address, const IpAddress& base, int bits) {
    if (address.v6 != base.v6) return false;
    const size_t whole = size_t(bits) / 8;
    if (!std::equal(base.bytes.begin(), base.bytes.begin() + whole, address.bytes.begin()))
        return false;
    const int rest = bits % 8;
    return rest == 0 || (base.bytes[whole] ^ address.bytes[whole]) >> (8 - rest) == 0;
}

// What nobody may be sent to (IANA's special-purpose registries; api.md 4.3.4).
const std::vector<AddressBlock>& denied() {
    static const std::vector<AddressBlock> blocks = [] {
        std::vector<AddressBlock> all;
        for (const char* text :
             {"0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16",
              "172.16.0.0/12", "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16",
              "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
              "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20"})
            all.push_back(AddressBlock::parse(text).value());
        return all;
    }();
    return blocks;
}

bool in_any(const IpAddress& address, const std::vector<AddressBlock>& blocks) {
    return std::ranges::any_of(blocks, [&](const auto& block) { return block.contains(address); });
}

}  // namespace

std::optional<IpAddress> IpAddress::parse(std::string_view text) {
    // The longest: eight groups, the last two as a dotted quad. inet_pton wants a terminator.
    if (text.size() > 45 || text.find('\0') != text.npos) return std::nullopt;
    const std::string copy(text);
    IpAddress address;
    if (inet_pton(AF_INET, copy.c_str(), address.bytes.data()) == 1 && address.text() == copy)
        return address;
    address = {};
    address.v6 = true;
    if (inet_pton(AF_INET6, copy.c_str(), address.bytes.data()) == 1) return address;
    return std::nullopt;
}

std::string IpAddress::text() const {
    char out[INET6_ADDRSTRLEN] = {};
    inet_ntop(v6 ? AF_INET6 : AF_INET, bytes.data(), out, sizeof out);
    return out;
}

IpAddress IpAddress::unwrapped() const {
    if (!v6) return *this;
    const IpAddress wrappers[] = {v6_with({0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF}), v6_with({}),
                                  v6_with({0, 0x64, 0xFF, 0x9B})};
    for (const IpAddress& wrapper : wrappers)
        if (begins_with(*this, wrapper, 96)) {
            IpAddress inside;
            for (size_t i = 0; i < 4; ++i) inside.bytes[i] = bytes[12 + i];
            return inside;
        }
    return *this;
}

std::optional<AddressBlock> AddressBlock::parse(std::string_view text) {
    const size_t slash = text.find('/');
    const auto base = IpAddress::parse(text.substr(0, slash));
    if (!base) return std::nullopt;
    const int most = base->v6 ? 128 : 32;
    AddressBlock block{*base, most};
    if (slash == text.npos) return block;
    const std::string_view bits = text.substr(slash + 1);
    const auto [end, error] = std::from_chars(bits.begin(), bits.end(), block.bits);
    if (error != std::errc() || end != bits.end() || block.bits < 0 || block.bits > most)
        return std::nullopt;
    return block;
}

bool AddressBlock::contains(const IpAddress& address) const {
    return begins_with(address, base, bits);
}

bool may_connect(const IpAddress& address, const std::vector<AddressBlock>& allowed) {
    const IpAddress inside = address.unwrapped();
    if (in_any(address, allowed) || in_any(inside, allowed)) return true;
    static const AddressBlock global{v6_with({0x20}), 3};
    if (inside.v6 && !global.contains(inside)) return false;
    return !in_any(inside, denied());
}

}  // namespace internvl
