#include "base/quick_digest.h"

#include <xxhash.h>

#include <cstring>

namespace internvl {

QuickDigest quick_digest(const void* data, size_t bytes) {
    XXH128_canonical_t canonical;
    XXH128_canonicalFromHash(&canonical, XXH3_128bits(data, bytes));
    QuickDigest digest;
    static_assert(sizeof digest == sizeof canonical);
    std::memcpy(digest.data(), &canonical, sizeof digest);
    return digest;
}

}  // namespace internvl
