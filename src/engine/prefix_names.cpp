#include "engine/prefix_names.h"

namespace internvl {

PrefixNames::PrefixNames(const RopeFrequencies& rope, const std::string& scope) {
    if (!scope.empty()) {  // users choose them: a digest of theirs has one length
        const DigestKey digest = Digest().update(scope.data(), scope.size()).key();
        digest_.update(digest.data(), digest.size());
    }
    digest_.update(rope.inv_freq.data(), rope.inv_freq.size() * sizeof(float));
    digest_.update(&rope.magnitude, sizeof rope.magnitude);
}

void PrefixNames::append(int id) {
    append(id, nullptr, -1);
}

void PrefixNames::append(int id, const DigestKey& tile, int row) {
    append(id, &tile, row);
}

// A token's record says by its row whether a tile follows: no two sequences have the same bytes.
void PrefixNames::append(int id, const DigestKey* tile, int row) {
    if (ended_) return;
    const int32_t record[] = {id, row};
    digest_.update(record, sizeof record);
    if (tile) digest_.update(tile->data(), tile->size());
    if (++tokens_ % cache_block != 0) return;
    names_.push_back(digest_.key());
    digest_ = Digest();
    digest_.update(names_.back().data(), names_.back().size());
}

}  // namespace internvl
