#pragma once
#include <cstdint>
#include <list>
#include <optional>
#include <span>
#include <unordered_map>
#include <vector>

#include "base/digest.h"

namespace internvl {

// Who holds which block of a cache, and what blocks are known to hold. A block that nobody holds
// any more is remembered by its name until its room is wanted; the one given back first goes first.
class BlockPool {
  public:
    explicit BlockPool(int64_t blocks) : blocks_(size_t(blocks)) {}

    int64_t size() const { return int64_t(blocks_.size()); }
    int64_t available() const { return size() - held_; }  // nobody holds them
    int64_t idle() const { return touched_ - held_; }     // of these, ever used

    int32_t take();  // one that nobody holds, of which there must be one; it loses its name
    std::vector<int32_t> take_several(int64_t count);  // of which as many must be available
    void hold(int32_t block);                          // one holder more
    void give_back(int32_t block);
    void give_back(std::span<const int32_t> blocks);  // of one sequence, in order

    // What a held block holds from now on. Where another has the name already, nothing changes.
    void name(int32_t block, const DigestKey&);
    std::optional<int32_t> find(const DigestKey&) const;
    // Holds the blocks of as many of the names, from the first on, as are known.
    std::vector<int32_t> hold_known(std::span<const DigestKey> names);
    const std::optional<DigestKey>& name_of(int32_t block) const {
        return blocks_[size_t(block)].name;
    }
    // Named ones that nobody holds, in the order in which they will be forgotten.
    const std::list<int32_t>& remembered() const { return remembered_; }

  private:
    struct Block {
        int holders = 0;
        std::optional<DigestKey> name = {};
        std::list<int32_t>::iterator place = {};  // among the remembered
    };

    std::vector<Block> blocks_;
    int64_t held_ = 0;
    int32_t touched_ = 0;        // blocks from here on were never taken: their memory is untouched
    std::vector<int32_t> free_;  // taken once, without name or holder; the next one last
    std::list<int32_t> remembered_;
    std::unordered_map<DigestKey, int32_t, DigestKeyHash> index_;
};

}  // namespace internvl
