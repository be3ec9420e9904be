#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <memory>
#include <span>
#include <string>

namespace internvl {

// A SHA-256 digest that names what it was made of.
using DigestKey = std::array<uint8_t, 32>;
struct DigestKeyHash {
    size_t operator()(const DigestKey& key) const {
        size_t hash;
        std::memcpy(&hash, key.data(), sizeof hash);
        return hash;
    }
};

// A digest over bytes given piece by piece.
class Digest {
  public:
    enum class Kind { sha1, sha256 };
    explicit Digest(Kind kind = Kind::sha256);
    Digest(Digest&&) noexcept;
    Digest& operator=(Digest&&) noexcept;
    ~Digest();
    Digest& update(const void* data, size_t bytes);
    std::string hex();  // 40 or 64 lower-case digits; ends the digest
    DigestKey key();    // of SHA-256; ends the digest

  private:
    struct State;
    std::unique_ptr<State> state_;
};

using Sha256 = Digest;

std::string hex(std::span<const uint8_t> bytes);  // lower-case digits
std::string sha256_hex(const void* data, size_t bytes);

}  // namespace internvl
