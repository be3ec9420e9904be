#pragma once
#include <gtest/gtest.h>

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <nlohmann/json.hpp>
#include <span>
#include <string>
#include <vector>

#include "base/digest.h"
#include "base/error.h"
#include "media/image.h"

namespace internvl {

inline const std::string golden_folder = INTERNVL_SOURCE_DIR "/tests/golden/media/";
inline const std::string shared_folder = INTERNVL_SOURCE_DIR "/../shared/data/";

inline std::vector<uint8_t> read_bytes(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    EXPECT_TRUE(file.is_open()) << path;
    return {std::istreambuf_iterator<char>(file), {}};
}

inline nlohmann::json read_json(const std::string& path) {
    std::ifstream file(path);
    EXPECT_TRUE(file.is_open()) << path;
    return nlohmann::json::parse(file);
}

template <class T>
std::string digest_of(const std::vector<T>& values) {
    return sha256_hex(values.data(), values.size() * sizeof(T));
}

// zlib's CRC-32.
inline uint32_t crc32_of(std::span<const uint8_t> bytes) {
    uint32_t crc = ~0u;
    for (uint8_t byte : bytes) {
        crc ^= byte;
        for (int bit = 0; bit < 8; ++bit) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
    }
    return ~crc;
}

// The specification's synthetic picture S(w, h) (Appendix A).
inline Image synthetic_image(int width, int height) {
    Image image{width, height, {}};
    image.rgb.reserve(size_t(width) * size_t(height) * 3);
    for (int y = 0; y < height; ++y)
        for (int x = 0; x < width; ++x)
            for (int c = 0; c < 3; ++c)
                image.rgb.push_back(uint8_t(7 * x + 13 * y + 29 * c + int64_t(x) * y % 31));
    return image;
}

// The message of the Error that `action` throws; empty when it throws none.
template <class F>
std::string error_of(F&& action) {
    try {
        action();
    } catch (const Error& error) {
        return error.what();
    }
    return {};
}

}  // namespace internvl
