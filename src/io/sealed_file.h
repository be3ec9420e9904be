#pragma once
#include <cstdint>
#include <optional>
#include <span>

#include "base/digest.h"
#include "base/parallel.h"
#include "base/quick_digest.h"

namespace internvl {

// In front of a large file of our own that is mapped and used in place, so that none of it needs to
// be read to know what it is. The file:
//   head | contents | for each 4 MiB of these two a QuickDigest | SHA-256 of those digests
// Each block has its own digest so that all threads check the file together. A change of layout is
// another magic.
struct alignas(64) SealedHead {
    char magic[8] = {'I', 'V', 'S', 'E', 'A', 'L', '0', '1'};
    int64_t bytes = 0;        // of head and contents
    DigestKey identity = {};  // all that the contents follow from
    DigestKey plan = {};      // which parts they have, in which order
    uint8_t rest[48] = {};
};
static_assert(sizeof(SealedHead) == 128);

constexpr int64_t seal_block = int64_t(4) << 20;
constexpr int64_t seal_blocks(int64_t bytes) {
    return (bytes + seal_block - 1) / seal_block;
}
// Of a whole file with so many bytes of head and contents.
constexpr int64_t sealed_bytes(int64_t bytes) {
    return bytes + seal_blocks(bytes) * int64_t(sizeof(QuickDigest)) + int64_t(sizeof(DigestKey));
}

// The head of a file that has the right length and digests that are whole; else none. The contents
// have not been looked at.
std::optional<SealedHead> read_head(std::span<const std::byte> file);
// Whether head and contents are what was written, of a file that has a head.
bool is_whole(std::span<const std::byte> file, const SealedHead&, ThreadPool&);

}  // namespace internvl
