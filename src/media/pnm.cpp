#include <fmt/format.h>

#include <charconv>
#include <cmath>
#include <cstring>
#include <string_view>

#include "media/codecs.h"

namespace internvl {
namespace {

bool is_blank(uint8_t c) {
    return c == ' ' || (c >= '\t' && c <= '\r');
}

// Numbers as text, blank-separated, with `#` comments to the line's end.
struct Tokens {
    const Encoded& file;
    size_t at;

    uint8_t next() { return at < file.bytes.size() ? file.bytes[at++] : '\0'; }

    void skip_blanks() {
        for (; at < file.bytes.size(); ++at) {
            if (file.bytes[at] == '#')
                while (at < file.bytes.size() && file.bytes[at] != '\n' && file.bytes[at] != '\r')
                    ++at;
            else if (!is_blank(file.bytes[at]))
                return;
        }
        file.fail("an end of the file before the picture is complete");
    }

    std::string_view word() {
        skip_blanks();
        const size_t start = at;
        while (at < file.bytes.size() && !is_blank(file.bytes[at]) && file.bytes[at] != '#') ++at;
        return {reinterpret_cast<const char*>(&file.bytes[start]), at - start};
    }

    int64_t number(int64_t most) {
        const std::string_view text = word();
        int64_t value = -1;
        const auto [end, error] = std::from_chars(text.begin(), text.end(), value);
        if (text.size() > 10 || error != std::errc() || end != text.end() || value < 0 ||
            value > most)
            file.fail(
                fmt::format("'{}' where a number from 0 to {} belongs", text.substr(0, 20), most));
        return value;
    }

    float real() {
        const std::string_view text = word();
        float value = 0;
        const auto [end, error] = std::from_chars(text.begin(), text.end(), value);
        if (error != std::errc() || end != text.end() || !std::isfinite(value) || value == 0)
            file.fail("a scale that is not a finite number other than 0");
        return value;
    }
};

// Pillow's scaling: halves to even in double. Gray beyond 8 bits becomes a 16-bit value first,
// which is then clipped, so almost all of it is white.
uint8_t scaled(int64_t value, int64_t most, bool gray) {
    const double full = gray && most > 255 ? 65535 : 255;
    const double v = std::nearbyint(double(value) / double(most) * full);
    return v > 255 ? 255 : uint8_t(v);
}

void store(Image& image, size_t i, uint8_t value, size_t channels) {
    if (channels == 3)
        image.rgb[i] = value;
    else
        std::memset(&image.rgb[3 * i], value, 3);
}

void read_bits(Tokens& tokens, bool text, Image& image) {
    const size_t width = size_t(image.width), height = size_t(image.height);
    const size_t stride = (width + 7) / 8;
    if (text) {
        for (size_t i = 0; i < width * height; ++i) {
            tokens.skip_blanks();  // blanks between the digits are optional
            const uint8_t digit = tokens.next();
            if (digit != '0' && digit != '1') tokens.file.fail("a digit other than 0 and 1");
            store(image, i, digit == '0' ? 255 : 0, 1);
        }
        return;
    }
    const auto bits = ByteReader{tokens.file}.range(tokens.at, stride * height);
    for (size_t y = 0; y < height; ++y)
        for (size_t x = 0; x < width; ++x)
            store(image, y * width + x, bits[y * stride + x / 8] >> (7 - x % 8) & 1 ? 0 : 255, 1);
}

// 32-bit floats, bottom row first, clipped to 0..255 (Pillow ignores the scale's size).
void read_floats(Tokens& tokens, float scale, Image& image) {
    const size_t width = size_t(image.width), height = size_t(image.height);
    const ByteReader in{tokens.file, scale > 0};
    in.range(tokens.at, width * height * 4);
    for (size_t i = 0; i < width * height; ++i) {
        const uint32_t bits = in.u32(tokens.at + 4 * i);
        float value;
        std::memcpy(&value, &bits, sizeof value);
        const size_t y = height - 1 - i / width;
        const uint8_t gray = value > 255 ? 255 : value > 0 ? uint8_t(value) : 0;
        store(image, y * width + i % width, gray, 1);
    }
}

}  // namespace

// P1 to P6 and the gray float map Pf.
Image decode_pnm(const Encoded& file) {
    const char kind = char(file.bytes[1]);
    Tokens tokens{file, 2};
    const int64_t width = tokens.number(INT32_MAX), height = tokens.number(INT32_MAX);
    file.check_size(width, height);
    const bool text = kind >= '1' && kind <= '3';
    const bool bits = kind == '1' || kind == '4';
    const float scale = kind == 'f' ? tokens.real() : 0;
    const int64_t most = bits || kind == 'f' ? 1 : tokens.number(65535);
    if (most == 0) file.fail("a largest value of 0");
    if (!text) tokens.next();  // exactly one blank before the pixels

    const size_t channels = kind == '3' || kind == '6' ? 3 : 1;
    const size_t count = size_t(width * height) * channels;
    const size_t size = most > 255 ? 2 : 1;
    const ByteReader in{file, true};
    if (kind >= '5' && kind <= '6') in.range(tokens.at, count * size);
    if (text && count > 2 * (file.bytes.size() - tokens.at)) file.fail("fewer numbers than pixels");
    Image image = file.canvas(width, height);
    if (bits) {
        read_bits(tokens, text, image);
    } else if (kind == 'f') {
        read_floats(tokens, scale, image);
    } else {
        for (size_t i = 0; i < count; ++i) {
            const int64_t value = text        ? tokens.number(most)
                                  : size == 2 ? in.u16(tokens.at + 2 * i)
                                              : in.u8(tokens.at + i);
            store(image, i, scaled(std::min(value, most), most, channels == 1), channels);
        }
    }
    return image;
}

}  // namespace internvl
