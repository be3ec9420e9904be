#include "engine/block_pool.h"

#include <cassert>

namespace internvl {

int32_t BlockPool::take() {
    assert(available() > 0);
    int32_t block;
    if (!free_.empty()) {
        block = free_.back();
        free_.pop_back();
    } else if (touched_ < size()) {
        block = touched_++;
    } else {
        block = remembered_.front();
        remembered_.pop_front();
        std::optional<DigestKey>& name = blocks_[size_t(block)].name;
        index_.erase(*name);
        name.reset();
    }
    blocks_[size_t(block)].holders = 1;
    ++held_;
    return block;
}

std::vector<int32_t> BlockPool::take_several(int64_t count) {
    std::vector<int32_t> blocks(size_t(count), 0);
    for (int32_t& b : blocks) b = take();
    return blocks;
}

void BlockPool::hold(int32_t block) {
    Block& b = blocks_[size_t(block)];
    if (b.holders++ > 0) return;
    assert(b.name);  // nothing else is ever found
    remembered_.erase(b.place);
    ++held_;
}

void BlockPool::give_back(int32_t block) {
    Block& b = blocks_[size_t(block)];
    assert(b.holders > 0);
    if (--b.holders > 0) return;
    --held_;
    if (b.name)
        b.place = remembered_.insert(remembered_.end(), block);
    else
        free_.push_back(block);
}

// The last first: a block is of use only as long as those before it are known.
void BlockPool::give_back(std::span<const int32_t> blocks) {
    for (auto b = blocks.rbegin(); b != blocks.rend(); ++b) give_back(*b);
}

void BlockPool::name(int32_t block, const DigestKey& key) {
    Block& b = blocks_[size_t(block)];
    assert(b.holders > 0 && !b.name);
    if (index_.emplace(key, block).second) b.name = key;
}

std::optional<int32_t> BlockPool::find(const DigestKey& key) const {
    const auto found = index_.find(key);
    return found == index_.end() ? std::nullopt : std::optional(found->second);
}

std::vector<int32_t> BlockPool::hold_known(std::span<const DigestKey> names) {
    std::vector<int32_t> blocks;
    for (const DigestKey& name : names) {
        const std::optional<int32_t> block = find(name);
        if (!block) break;
        hold(*block);
        blocks.push_back(*block);
    }
    return blocks;
}

}  // namespace internvl
