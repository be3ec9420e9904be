#pragma once
#include <cstdint>
#include <cstring>
#include <string_view>

namespace internvl {

// A quick hash whose upper bits are the good ones.
inline uint64_t hash_bytes(std::string_view bytes) {
    uint64_t h = bytes.size();
    for (; bytes.size() >= 8; bytes.remove_prefix(8)) {
        uint64_t part;
        std::memcpy(&part, bytes.data(), 8);
        h = (h ^ part) * 0x9e3779b97f4a7c15u;
        h ^= h >> 32;
    }
    uint64_t rest = 0;
    if (!bytes.empty()) std::memcpy(&rest, bytes.data(), bytes.size());
    h = (h ^ rest) * 0x9e3779b97f4a7c15u;
    return (h ^ h >> 32) * 0x9e3779b97f4a7c15u;
}

}  // namespace internvl
