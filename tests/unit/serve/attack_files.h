#pragma once
// Files that claim more than they hold, made here.
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace internvl {

inline std::string big32(uint32_t value) {
    return {char(value >> 24), char(value >> 16), char(value >> 8), char(value)};
}
inline std::string little(uint64_t value, int bytes) {
    std::string text;
    for (int i = 0; i < bytes; ++i) text += char(value >> (8 * i));
    return text;
}

inline uint32_t crc32_text(const std::string& text) {
    static const std::vector<uint32_t> table = [] {
        std::vector<uint32_t> entries(256);
        for (uint32_t i = 0; i < 256; ++i) {
            uint32_t crc = i;
            for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
            entries[i] = crc;
        }
        return entries;
    }();
    uint32_t crc = ~0u;
    for (const char c : text) crc = crc >> 8 ^ table[(crc ^ uint8_t(c)) & 0xFF];
    return ~crc;
}

// A zlib stream of `count` zeros in a thousandth of the room: one literal, then copies of 258 bytes
// from one byte back, in deflate's fixed code.
inline std::string zeros(uint64_t count) {
    std::string out = "\x78\x01";
    uint32_t bits = 0;
    int held = 0;
    const auto put = [&](uint32_t value, int size) {  // lowest bit first
        bits |= value << held;
        for (held += size; held >= 8; held -= 8, bits >>= 8) out += char(bits);
    };
    put(0b011, 3);                                     // last block, fixed code
    const auto literal = [&] { put(0b00001100, 8); };  // 0, its code 00110000 reversed
    for (; count % 258 != 1; --count) literal();
    literal();
    for (uint64_t i = 1; i < count; i += 258) put(0b10100011, 8), put(0, 5);  // 285, distance 1
    put(0, 7);                                                                // end
    put(0, 7);                                                                // fills the last byte
    return out;
}

inline std::string png_chunk(const std::string& name, const std::string& data) {
    return big32(uint32_t(data.size())) + name + data + big32(crc32_text(name + data));
}

inline const std::string png_mark = "\x89PNG\r\n\x1A\n";

inline std::string png_head(uint32_t width, uint32_t height, int colour = 2) {
    return png_mark + png_chunk("IHDR", big32(width) + big32(height) + '\x08' + char(colour) +
                                            std::string(3, '\0'));
}

// A black picture; colour 2 is RGB, 0 gray. What its Adler-32 says is left to the reader's mercy.
inline std::string black_png(uint32_t width, uint32_t height, int colour = 2,
                             const std::string& before = {}) {
    const uint64_t row = 1 + uint64_t(width) * (colour == 2 ? 3 : 1);
    const uint64_t bytes = row * height;
    const std::string sum = big32(uint32_t(bytes % 65521) << 16 | 1);
    return png_head(width, height, colour) + before + png_chunk("IDAT", zeros(bytes) + sum) +
           png_chunk("IEND", "");
}

// A GIF of one black pixel, shown again and again.
inline std::string gif(int frames, int width = 1, int height = 1) {
    std::string file = "GIF89a" + little(uint64_t(width), 2) + little(uint64_t(height), 2) +
                       std::string("\x80\0\0\0\0\0\xFF\xFF\xFF", 9);
    const std::string frame = std::string("\x2C\0\0\0\0\x01\0\x01\0\0\x02\x02\x44\x01\0", 15);
    for (int i = 0; i < frames; ++i) file += frame;
    return file + ';';
}

// The same as an animated WebP.
inline std::string webp(int frames) {
    const auto chunk = [](const std::string& name, const std::string& data) {
        return name + little(data.size(), 4) + data + std::string(data.size() % 2, '\0');
    };
    const std::string pixel("\x2F\0\0\0\x10\x07\x10\x11\x11\x88\x88\xFE\x07",
                            13);  // one, without loss
    const std::string frame =
        chunk("ANMF", std::string(12, '\0') + std::string("\x64\0\0\0", 4) + chunk("VP8L", pixel));
    std::string body = "WEBP" + chunk("VP8X", std::string("\x02\0\0\0", 4) + std::string(6, '\0')) +
                       chunk("ANIM", std::string(6, '\0'));
    for (int i = 0; i < frames; ++i) body += frame;
    return "RIFF" + little(body.size(), 4) + body;
}

// An APNG of one black pixel.
inline std::string apng(int frames) {
    std::string file = png_head(1, 1) + png_chunk("acTL", big32(uint32_t(frames)) + big32(0));
    const std::string control =
        big32(1) + big32(1) + std::string(8, '\0') + std::string("\0\x01\0\x0A\0\0", 6);
    const std::string data = zeros(4) + big32(4u << 16 | 1);
    uint32_t sequence = 0;
    file += png_chunk("fcTL", big32(sequence++) + control) + png_chunk("IDAT", data);
    for (int i = 1; i < frames; ++i) {
        file += png_chunk("fcTL", big32(sequence) + control);
        file += png_chunk("fdAT", big32(sequence + 1) + data);
        sequence += 2;
    }
    return file + png_chunk("IEND", "");
}

// The JPEG with its last scan written `times` times.
inline std::string repeat_last_scan(const std::string& jpeg, int times) {
    const size_t scan = jpeg.rfind("\xFF\xDA"), end = jpeg.rfind("\xFF\xD9");
    std::string file = jpeg.substr(0, scan);
    for (int i = 0; i < times; ++i) file += jpeg.substr(scan, end - scan);
    return file + "\xFF\xD9";
}

// The first box of that name in an MP4 file with four bytes at `offset` in its content replaced.
inline std::string patch_box(std::string file, const std::string& box, size_t offset,
                             uint32_t value) {
    const size_t at = file.find(box);
    return at == file.npos ? file : file.replace(at + 4 + offset, 4, big32(value));
}

}  // namespace internvl
