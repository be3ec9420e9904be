#include "io/sealed_file.h"

#include <algorithm>
#include <atomic>
#include <cstring>

namespace internvl {

std::optional<SealedHead> read_head(std::span<const std::byte> file) {
    SealedHead head;
    const SealedHead usual;
    if (file.size() < sizeof head) return std::nullopt;
    std::memcpy(&head, file.data(), sizeof head);
    const int64_t size = int64_t(file.size());
    if (std::memcmp(head.magic, usual.magic, sizeof head.magic) != 0 ||
        head.bytes < int64_t(sizeof head) || head.bytes > size || sealed_bytes(head.bytes) != size)
        return std::nullopt;
    const size_t digests = size_t(size - head.bytes) - sizeof(DigestKey);
    const DigestKey seal = Digest().update(file.data() + head.bytes, digests).key();
    if (std::memcmp(seal.data(), file.data() + head.bytes + digests, seal.size()) != 0)
        return std::nullopt;
    return head;
}

bool is_whole(std::span<const std::byte> file, const SealedHead& head, ThreadPool& pool) {
    const std::byte* const digests = file.data() + head.bytes;
    std::atomic<bool> whole = true;
    pool.parallel_for(seal_blocks(head.bytes), 1, [&](int64_t block, int64_t, int) {
        if (!whole.load(std::memory_order_relaxed)) return;
        const int64_t at = block * seal_block;
        const QuickDigest found =
            quick_digest(file.data() + at, size_t(std::min(seal_block, head.bytes - at)));
        if (std::memcmp(found.data(), digests + block * int64_t(found.size()), found.size()) != 0)
            whole.store(false, std::memory_order_relaxed);
    });
    return whole;
}

}  // namespace internvl
