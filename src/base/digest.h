#pragma once
#include <cstddef>
#include <memory>
#include <string>

namespace internvl {

// SHA-256 over bytes given piece by piece.
class Sha256 {
  public:
    Sha256();
    ~Sha256();
    Sha256& update(const void* data, size_t bytes);
    std::string hex();  // 64 lower-case digits; ends the digest

  private:
    struct State;
    std::unique_ptr<State> state_;
};

std::string sha256_hex(const void* data, size_t bytes);

}  // namespace internvl
