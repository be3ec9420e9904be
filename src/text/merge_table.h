#pragma once
#include <cstdint>
#include <span>
#include <vector>

namespace internvl {

// Which neighbours a byte-pair encoding joins, and which of them first. A symbol is the id of a
// piece, or -2 - c for a character c that has none.
class MergeTable {
  public:
    struct Merge {
        uint64_t pair = UINT64_MAX;  // left << 32 | right; none in an empty slot
        uint32_t rank = 0;
        int merged = 0;
        bool used() const { return pair != UINT64_MAX; }
        int left() const { return int(pair >> 32); }
        int right() const { return int(uint32_t(pair)); }
    };
    static constexpr uint32_t no_rank = UINT32_MAX;

    void add(int left, int right, uint32_t rank, int merged);  // the first of a pair counts

    const Merge* find(int left, int right) const {  // null: they are not joined
        const uint64_t pair = pair_of(left, right), hash = hash_of(pair);
        // Most neighbours are not joined, and the table is far larger than the near caches.
        if (!(seen_[(hash & seen_mask()) / 64] >> (hash % 64) & 1)) return nullptr;
        const Merge& slot = slots_[slot_of(pair, hash)];
        return slot.used() ? &slot : nullptr;
    }
    std::span<const Merge> slots() const { return slots_; }  // of the hash table

    // Joins neighbours in `symbols`: the lowest rank first, of equal ones the leftmost. Returns how
    // many symbols are left, at the front.
    size_t apply(std::span<int> symbols) const;

  private:
    static uint64_t pair_of(int left, int right) {
        return uint64_t(uint32_t(left)) << 32 | uint32_t(right);
    }
    static uint64_t hash_of(uint64_t pair) {
        const uint64_t product = pair * 0x9e3779b97f4a7c15u;
        return product ^ product >> 29;
    }
    // Where `pair` is, or the empty slot where it would be.
    size_t slot_of(uint64_t pair, uint64_t hash) const {
        uint64_t slot = hash & mask_;
        while (slots_[slot].pair != pair && slots_[slot].used()) slot = (slot + 1) & mask_;
        return slot;
    }
    Merge& place(uint64_t pair);
    void grow();
    uint64_t seen_mask() const { return 64 * seen_.size() - 1; }
    size_t apply_to_many(std::span<int> symbols) const;

    std::vector<Merge> slots_{1};  // open addressing, a power of two, never full
    uint64_t mask_ = 0;
    std::vector<uint64_t> seen_{0};  // a bit for the hash of each pair, 8 times as many as slots
    size_t used_ = 0;
};

}  // namespace internvl
