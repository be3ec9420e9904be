#include "text/piece_list.h"

#include <bit>

#include "text/hash_bytes.h"

namespace internvl {

void PieceList::reserve(size_t pieces, size_t bytes) {
    bytes_.reserve(bytes);
    ends_.reserve(pieces);
    grow(std::bit_ceil(2 * pieces + 2));
}

std::string_view PieceList::operator[](int id) const {
    if (id < 0 || id >= size()) return {};
    const uint32_t begin = id == 0 ? 0 : ends_[size_t(id) - 1];
    return std::string_view(bytes_).substr(begin, ends_[size_t(id)] - begin);
}

// Where `text` is, or the empty slot where it would be.
size_t PieceList::slot_of(uint32_t hash, std::string_view text) const {
    size_t at = hash & (slots_.size() - 1);
    while (slots_[at].id >= 0 && (slots_[at].hash != hash || (*this)[slots_[at].id] != text))
        at = (at + 1) & (slots_.size() - 1);
    return at;
}

void PieceList::grow(size_t slots) {
    if (slots <= slots_.size()) return;
    std::vector<Slot> old(slots);
    old.swap(slots_);
    for (const Slot& slot : old) {
        if (slot.id < 0) continue;
        size_t at = slot.hash & (slots - 1);
        while (slots_[at].id >= 0) at = (at + 1) & (slots - 1);
        slots_[at] = slot;
    }
}

int PieceList::add(std::string_view text, bool findable) {
    const int id = size();
    bytes_ += text;
    ends_.push_back(uint32_t(bytes_.size()));
    if (!findable) return id;
    if (2 * found_ >= slots_.size()) grow(std::bit_ceil(4 * found_ + 2));
    const uint32_t hash = uint32_t(hash_bytes(text) >> 32);
    Slot& slot = slots_[slot_of(hash, text)];
    if (slot.id >= 0) return id;
    slot = {hash, id};
    ++found_;
    return id;
}

int PieceList::find(std::string_view text) const {
    if (slots_.empty()) return -1;
    return slots_[slot_of(uint32_t(hash_bytes(text) >> 32), text)].id;
}

}  // namespace internvl
