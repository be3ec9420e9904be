#include "text/byte_bpe.h"

#include <algorithm>

#include "text/utf8.h"
#include "text/word_memory.h"

namespace internvl {

// Most characters of two or three bytes are one piece, and beside other such characters their bytes
// are merged before any merge that takes one of their ends to the other side: every rank of those
// is higher. They can be taken whole.
void ByteBpe::find_whole_characters() {
    // The lowest rank at which a piece meets, on its right, what begins a character, or on its left
    // what ends one.
    std::vector<uint32_t> as_left(size_t(size()), MergeTable::no_rank), as_right = as_left;
    for (const MergeTable::Merge& merge : merges_.slots()) {
        if (!merge.used()) continue;
        const size_t left = size_t(merge.left()), right = size_t(merge.right());
        if (uint8_t(piece(merge.right()).front()) >= 0xc0)
            as_left[left] = std::min(as_left[left], merge.rank);
        if ((uint8_t(piece(merge.left()).back()) & 0xc0) == 0x80)
            as_right[right] = std::min(as_right[right], merge.rank);
    }
    character_.assign(65536, -1);
    for (uint32_t c = 0x80; c < 65536; ++c) {
        std::string bytes;
        append_utf8(c, bytes);
        const int a = byte_id_[uint8_t(bytes[0])], b = byte_id_[uint8_t(bytes[1])];
        const auto* first = merges_.find(a, b);
        if (!first || as_right[size_t(a)] <= first->rank) continue;
        if (bytes.size() == 2) {
            if (as_left[size_t(b)] > first->rank) character_[c] = first->merged;
            continue;
        }
        const int last = byte_id_[uint8_t(bytes[2])];
        const auto* second = merges_.find(first->merged, last);
        const auto* rival = merges_.find(b, last);
        if (!second || (rival && rival->rank <= first->rank)) continue;
        if (as_left[size_t(last)] > second->rank && as_right[size_t(first->merged)] > second->rank)
            character_[c] = second->merged;
    }
}

// What is merged: bytes, and characters that can be taken whole. Returns how many.
size_t ByteBpe::first_symbols(std::string_view word, int* symbols) const {
    size_t count = 0;
    for (size_t at = 0; at < word.size();) {
        const uint8_t byte = uint8_t(word[at]);
        const CodePoint c = byte < 0x80 ? CodePoint{byte, 1, true} : decode_at(word, at);
        const size_t end = at + size_t(c.bytes);
        const bool among_its_like = (at == 0 || uint8_t(word[at - 1]) >= 0x80) &&
                                    (end == word.size() || uint8_t(word[end]) >= 0x80);
        const int whole =
            c.bytes > 1 && c.valid && c.value < 65536 && among_its_like ? character_[c.value] : -1;
        symbols[count++] = whole >= 0 ? whole : byte_id_[byte];
        at = whole >= 0 ? end : at + 1;
    }
    return count;
}

void ByteBpe::merge_word(std::string_view word, std::vector<int>& ids) const {
    if (rules_.whole_words)
        if (const int id = find(word); id >= 0) return ids.push_back(id);
    const size_t before = ids.size();
    ids.resize(before + word.size());
    int* const symbols = ids.data() + before;
    ids.resize(before + merges_.apply({symbols, first_symbols(word, symbols)}));
}

void ByteBpe::encode(std::string_view text, std::vector<int>& ids) const {
    WordMemory memory(text.size());
    for (size_t at = 0; at < text.size();) {
        const size_t end = word_end(text, at, rules_.digits);
        memory.append(
            text.substr(at, end - at), ids,
            [this](std::string_view word, std::vector<int>& out) { merge_word(word, out); });
        at = end;
    }
}

std::vector<int> ByteBpe::bytes(std::string_view text) const {
    std::vector<int> ids;
    for (const char byte : text) ids.push_back(byte_id_[uint8_t(byte)]);
    return ids;
}

}  // namespace internvl
