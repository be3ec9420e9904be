#include "text/merge_table.h"

#include <algorithm>
#include <cstring>
#include <queue>

namespace internvl {

void MergeTable::grow() {
    std::vector<Merge> old(2 * slots_.size());
    old.swap(slots_);
    mask_ = slots_.size() - 1;
    seen_.assign((slots_.size() + 7) / 8, 0);
    for (const Merge& merge : old)
        if (merge.used()) place(merge.pair) = merge;
}

// The slot of a pair that is, or is about to be, in the table.
MergeTable::Merge& MergeTable::place(uint64_t pair) {
    const uint64_t hash = hash_of(pair);
    seen_[(hash & seen_mask()) / 64] |= uint64_t(1) << (hash % 64);
    return slots_[slot_of(pair, hash)];
}

void MergeTable::add(int left, int right, uint32_t rank, int merged) {
    if (used_ + used_ / 4 + 1 >= slots_.size()) grow();
    const uint64_t pair = pair_of(left, right);
    Merge& slot = place(pair);
    if (slot.used()) return;
    slot = {pair, rank, merged};
    ++used_;
}

// Words are short: the pair to merge is found by looking at all of them.
size_t MergeTable::apply(std::span<int> symbols) const {
    constexpr size_t longest = 160;
    size_t count = symbols.size();
    if (count > longest) return apply_to_many(symbols);
    int* const symbol = symbols.data();
    int merged[longest];
    uint32_t rank[longest];  // of a symbol with its right neighbour; no_rank where there is none
    const auto look_up = [&](size_t i) {
        const Merge* merge = find(symbol[i], symbol[i + 1]);
        rank[i] = merge ? merge->rank : no_rank;
        merged[i] = merge ? merge->merged : 0;
    };
    for (size_t i = 0; i + 1 < count; ++i) look_up(i);
    while (count > 1) {
        uint32_t least = no_rank;
        for (size_t i = 0; i + 1 < count; ++i) least = std::min(least, rank[i]);
        if (least == no_rank) break;
        const size_t best = size_t(std::find(rank, rank + count, least) - rank);
        symbol[best] = merged[best];
        const size_t moved = count - best - 2;
        std::memmove(symbol + best + 1, symbol + best + 2, moved * sizeof(int));
        std::memmove(merged + best + 1, merged + best + 2, moved * sizeof(int));
        std::memmove(rank + best + 1, rank + best + 2, moved * sizeof(uint32_t));
        --count;
        if (best > 0) look_up(best - 1);
        if (best + 1 < count) look_up(best);
    }
    return count;
}

// A linked list of symbols and a queue of pairs, so that a megabyte without a space is not
// quadratic.
size_t MergeTable::apply_to_many(std::span<int> symbols) const {
    struct Link {
        int32_t previous, next;  // -1: none
        bool gone = false;
    };
    struct Candidate {
        uint32_t rank;
        int32_t left;
        int left_symbol, right_symbol, merged;
        bool operator<(const Candidate& o) const {
            return rank != o.rank ? rank > o.rank : left > o.left;
        }
    };
    std::vector<Link> links(symbols.size());
    std::priority_queue<Candidate> queue;
    const auto offer = [&](int32_t left) {
        if (left < 0 || links[size_t(left)].next < 0) return;
        const int a = symbols[size_t(left)], b = symbols[size_t(links[size_t(left)].next)];
        if (const Merge* merge = find(a, b)) queue.push({merge->rank, left, a, b, merge->merged});
    };
    for (size_t i = 0; i < symbols.size(); ++i)
        links[i] = {int32_t(i) - 1, i + 1 < symbols.size() ? int32_t(i) + 1 : -1};
    for (size_t i = 0; i < symbols.size(); ++i) offer(int32_t(i));
    while (!queue.empty()) {
        const Candidate c = queue.top();
        queue.pop();
        Link& left = links[size_t(c.left)];
        if (left.gone || left.next < 0 || symbols[size_t(c.left)] != c.left_symbol ||
            symbols[size_t(left.next)] != c.right_symbol)
            continue;
        Link& right = links[size_t(left.next)];
        symbols[size_t(c.left)] = c.merged;
        right.gone = true;
        left.next = right.next;
        if (left.next >= 0) links[size_t(left.next)].previous = c.left;
        offer(left.previous);
        offer(c.left);
    }
    size_t count = 0;
    for (int32_t i = 0; i >= 0; i = links[size_t(i)].next) symbols[count++] = symbols[size_t(i)];
    return count;
}

}  // namespace internvl
