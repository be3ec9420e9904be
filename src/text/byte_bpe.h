#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace internvl {

// Byte-level byte-pair encoding (spec 7.3): text is cut into words by a fixed pattern, and the
// bytes of a word are merged, lowest rank first.
class ByteBpe {
  public:
    // Both files' texts; pieces are written in GPT-2's byte alphabet. Lines of `merges` that begin
    // with # are skipped, all of them, as the slow tokenizer does (the `#` trap). Throws Error.
    static ByteBpe load(std::string_view vocab_json, std::string_view merges,
                        const std::string& where);

    // Appends the ids of a stretch of valid UTF-8 between added tokens.
    void encode(std::string_view text, std::vector<int>& ids) const;

    std::string_view piece(int id) const;  // its bytes; empty for an id without a piece
    int size() const { return int(offsets_.size()) - 1; }

  private:
    struct Slot {
        uint64_t pair = UINT64_MAX;  // left id << 32 | right id
        uint32_t rank = 0;
        int merged = 0;
    };
    const Slot* find_merge(int left, int right) const;
    void find_whole_characters();
    void merge_word(std::string_view word, std::vector<int>& ids) const;
    void merge_long_word(std::string_view word, std::vector<int>& ids) const;

    std::string bytes_;              // of all pieces
    std::vector<uint32_t> offsets_;  // [pieces + 1]
    int byte_id_[256];
    std::vector<Slot> merges_;  // open addressing, a power of two
    uint64_t mask_ = 0;
    // [65536] the piece that a character always becomes before anything else happens to its
    // bytes, or -1.
    std::vector<int> character_;
};

// The end of the word that begins at text[at], by the pattern of Qwen2:
// (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|
// ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
size_t word_end(std::string_view text, size_t at);

}  // namespace internvl
