#pragma once
#include <array>
#include <cstddef>
#include <cstdint>

namespace internvl {

// XXH3 with 128 bits, at the speed of memory: it shows damage, but nobody's ill will (digest.h).
using QuickDigest = std::array<uint8_t, 16>;
QuickDigest quick_digest(const void* data, size_t bytes);

}  // namespace internvl
