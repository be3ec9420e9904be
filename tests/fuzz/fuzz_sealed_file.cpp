// Whatever a file of packed weights holds, reading it ends in contents that lie inside it, or in
// none; also where its digests are right.
#include <algorithm>
#include <cstring>
#include <vector>

#include "io/sealed_file.h"
#include "model/weight_store.h"

using namespace internvl;

// Parts are asked for as the input says.
static void use(std::span<const std::byte> file) {
    static ThreadPool pool(1);
    const auto head = read_head(file);
    if (!head || !is_whole(file, *head, pool)) return;
    WeightStore store(MappedFile::of_bytes(file), *head);
    for (size_t i = 0; i + 8 < file.size() && i < 400; i += 8) {
        uint16_t bytes;
        std::memcpy(&bytes, file.data() + i, sizeof bytes);
        const std::shared_ptr<void> part = store.take("part", bytes);
        volatile char sum = 0;
        for (int64_t k = 0; k < bytes; ++k) sum = sum + static_cast<const char*>(part.get())[k];
    }
    if (store.complete()) __builtin_trap();  // a plan is SHA-256
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    std::vector<std::byte> file(size);
    if (size > 0) std::memcpy(file.data(), data, size);
    use(file);
    SealedHead head;
    if (size < sizeof head) return 0;
    std::memcpy(head.magic, SealedHead().magic, sizeof head.magic);
    head.bytes = int64_t(size);
    std::memcpy(file.data(), &head, 16);
    std::vector<QuickDigest> digests;
    for (int64_t at = 0; at < head.bytes; at += seal_block)
        digests.push_back(
            quick_digest(file.data() + at, size_t(std::min(seal_block, head.bytes - at))));
    const size_t bytes = digests.size() * sizeof digests[0];
    const DigestKey seal = Digest().update(digests.data(), bytes).key();
    file.resize(size + bytes + seal.size());
    std::memcpy(file.data() + size, digests.data(), bytes);
    std::memcpy(file.data() + size + bytes, seal.data(), seal.size());
    if (!read_head(file)) __builtin_trap();
    use(file);
    return 0;
}
