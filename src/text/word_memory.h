#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <string_view>
#include <vector>

#include "text/hash_bytes.h"

namespace internvl {

// Ids of words seen before in one text. Words repeat; merging them again would be most of the work.
class WordMemory {
  public:
    explicit WordMemory(size_t text_bytes) {
        constexpr size_t short_text = 2048;  // not worth a memory
        if (text_bytes > short_text) entries_.resize(size_t(1) << 13);
    }

    // Appends the ids of `word`; `encode(word, ids)` appends those of one not remembered.
    template <class Encode>
    void append(std::string_view word, std::vector<int>& ids, const Encode& encode) {
        if (entries_.empty() || word.size() > longest_word) return encode(word, ids);
        const uint64_t hash = hash_bytes(word);
        Entry& entry = entries_[hash >> 51];
        if (entry.hash == hash && entry.bytes == word.size() &&
            std::memcmp(entry.word, word.data(), word.size()) == 0) {
            for (int i = 0; i < entry.ids; ++i) ids.push_back(entry.id[i]);  // mostly one
            return;
        }
        const size_t before = ids.size();
        encode(word, ids);
        const size_t made = ids.size() - before;
        if (made > most_ids) return;
        entry.hash = hash;
        entry.bytes = uint8_t(word.size());
        entry.ids = uint8_t(made);
        std::memcpy(entry.word, word.data(), word.size());
        std::copy(ids.begin() + long(before), ids.end(), entry.id);
    }

  private:
    static constexpr size_t longest_word = 24, most_ids = 8;
    struct Entry {
        uint64_t hash = 0;
        uint8_t bytes = 0, ids = 0;
        char word[longest_word];
        int id[most_ids];
    };
    std::vector<Entry> entries_;
};

}  // namespace internvl
