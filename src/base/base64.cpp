#include "base/base64.h"

#include <algorithm>
#include <cstdint>

namespace internvl {

static int value_of(char c) {
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

std::optional<std::vector<std::byte>> decode_base64(std::string_view text) {
    std::vector<std::byte> out;
    out.reserve(text.size() / 4 * 3);
    uint32_t bits = 0;
    int symbols = 0, padding = 0;
    for (const char c : text) {
        if (c == ' ' || (c >= '\t' && c <= '\r')) continue;
        if (c == '=') {
            ++padding;
            continue;
        }
        const int value = value_of(c);
        if (value < 0 || padding > 0) return std::nullopt;
        bits = bits << 6 | uint32_t(value);
        if (++symbols % 4 == 0)
            for (const int shift : {16, 8, 0}) out.push_back(std::byte(bits >> shift));
    }
    const int rest = symbols % 4;
    if (rest == 1 || padding > 2 || (padding > 0 && (rest + padding) % 4 != 0)) return std::nullopt;
    if (rest == 2) out.push_back(std::byte(bits >> 4));
    if (rest == 3) {
        out.push_back(std::byte(bits >> 10));
        out.push_back(std::byte(bits >> 2));
    }
    return out;
}

std::string encode_base64(std::string_view bytes) {
    static constexpr char symbols[] =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    std::string text;
    text.reserve((bytes.size() + 2) / 3 * 4);
    for (size_t i = 0; i < bytes.size(); i += 3) {
        const size_t left = std::min<size_t>(3, bytes.size() - i);
        uint32_t bits = 0;
        for (size_t k = 0; k < 3; ++k)
            bits = bits << 8 | (k < left ? uint32_t(uint8_t(bytes[i + k])) : 0);
        for (size_t k = 0; k < 4; ++k) text += k <= left ? symbols[bits >> (18 - 6 * k) & 63] : '=';
    }
    return text;
}

}  // namespace internvl
