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

void BlockPool::name(int32_t block, const DigestKey& key) {
    Block& b = blocks_[size_t(block)];
    assert(b.holders > 0 && !b.name);
    if (index_.emplace(key, block).second) b.name = key;
}

std::optional<int32_t> BlockPool::find(const DigestKey& key) const {
    const auto found = index_.find(key);
    return found == index_.end() ? std::nullopt : std::optional(found->second);
}

}  // namespace internvl
