#pragma once
#include <cstddef>
#include <memory>
#include <string>

namespace internvl {

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

  private:
    struct State;
    std::unique_ptr<State> state_;
};

using Sha256 = Digest;

std::string sha256_hex(const void* data, size_t bytes);

}  // namespace internvl
