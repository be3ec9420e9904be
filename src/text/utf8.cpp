#include "text/utf8.h"

#include <algorithm>

namespace internvl {

// Table 3-7 of the Unicode standard: how a lead byte restricts the second byte, and how many bytes
// follow.
struct Lead {
    int following;
    uint8_t low, high;  // of the second byte
};

static Lead lead_of(uint8_t b) {
    if (b >= 0xc2 && b <= 0xdf) return {1, 0x80, 0xbf};
    if (b == 0xe0) return {2, 0xa0, 0xbf};
    if (b == 0xed) return {2, 0x80, 0x9f};
    if (b >= 0xe1 && b <= 0xef) return {2, 0x80, 0xbf};
    if (b == 0xf0) return {3, 0x90, 0xbf};
    if (b >= 0xf1 && b <= 0xf3) return {3, 0x80, 0xbf};
    if (b == 0xf4) return {3, 0x80, 0x8f};
    return {0, 0, 0};
}

CodePoint decode_slowly(std::string_view text, size_t at) {
    const uint8_t first = uint8_t(text[at]);
    if (first < 0x80) return {first, 1, true};
    const Lead lead = lead_of(first);
    if (lead.following == 0) return {0xfffd, 1, false};
    uint32_t value = first & (0x3f >> lead.following);
    for (int i = 1; i <= lead.following; ++i) {
        const uint8_t b = at + size_t(i) < text.size() ? uint8_t(text[at + size_t(i)]) : 0;
        const bool good = i == 1 ? b >= lead.low && b <= lead.high : b >= 0x80 && b <= 0xbf;
        if (!good) return {0xfffd, i, false};
        value = value << 6 | (b & 0x3f);
    }
    return {value, lead.following + 1, true};
}

void append_utf8(uint32_t c, std::string& out) {
    if (c < 0x80) {
        out += char(c);
    } else if (c < 0x800) {
        out += char(0xc0 | c >> 6);
        out += char(0x80 | (c & 0x3f));
    } else if (c < 0x10000) {
        out += char(0xe0 | c >> 12);
        out += char(0x80 | (c >> 6 & 0x3f));
        out += char(0x80 | (c & 0x3f));
    } else {
        out += char(0xf0 | c >> 18);
        out += char(0x80 | (c >> 12 & 0x3f));
        out += char(0x80 | (c >> 6 & 0x3f));
        out += char(0x80 | (c & 0x3f));
    }
}

bool is_valid_utf8(std::string_view bytes) {
    for (size_t i = 0; i < bytes.size();) {
        const CodePoint c = decode_at(bytes, i);
        if (!c.valid) return false;
        i += size_t(c.bytes);
    }
    return true;
}

std::string replace_invalid(std::string_view bytes) {
    std::string out;
    out.reserve(bytes.size());
    for (size_t i = 0; i < bytes.size();) {
        const CodePoint c = decode_at(bytes, i);
        if (c.valid)
            out.append(bytes.substr(i, size_t(c.bytes)));
        else
            out.append("\xef\xbf\xbd");
        i += size_t(c.bytes);
    }
    return out;
}

size_t incomplete_tail(std::string_view bytes) {
    for (size_t n = 1; n <= std::min<size_t>(3, bytes.size()); ++n) {
        const size_t at = bytes.size() - n;
        const int following = lead_of(uint8_t(bytes[at])).following;
        if (following == 0) continue;
        const CodePoint c = decode_at(bytes, at);
        return !c.valid && size_t(c.bytes) == n && n <= size_t(following) ? n : 0;
    }
    return 0;
}

bool is_white_space(uint32_t c) {
    return (c >= 9 && c <= 13) || c == 0x20 || c == 0x85 || c == 0xa0 || c == 0x1680 ||
           (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 || c == 0x202f ||
           c == 0x205f || c == 0x3000;
}

bool is_stripped(uint32_t c) {
    return is_white_space(c) || (c >= 0x1c && c <= 0x1f);
}

std::string strip(std::string_view text) {
    size_t begin = 0, end = 0;
    bool seen = false;
    for (size_t i = 0; i < text.size();) {
        const CodePoint c = decode_at(text, i);
        if (!c.valid || !is_stripped(c.value)) {
            if (!seen) begin = i;
            seen = true;
            end = i + size_t(c.bytes);
        }
        i += size_t(c.bytes);
    }
    return seen ? std::string(text.substr(begin, end - begin)) : std::string();
}

std::string replace_all(std::string_view text, std::string_view from, std::string_view to) {
    std::string out;
    size_t done = 0;
    for (size_t at; (at = text.find(from, done)) != text.npos; done = at + from.size()) {
        out += text.substr(done, at - done);
        out += to;
    }
    return out += text.substr(done);
}

}  // namespace internvl
