#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text/merge_table.h"
#include "text/piece_list.h"

namespace internvl {

// Byte-level byte-pair encoding (spec 7.3, 7.7): text is cut into words by a fixed pattern, and the
// bytes of a word are merged, lowest rank first.
class ByteBpe {
  public:
    struct Rules {
        int digits = 1;            // so many numerals make a word: 1 (Qwen2) or 3 (Llama-3)
        bool whole_words = false;  // a word that is a piece is taken as it is (`ignore_merges`)
    };

    // The texts of vocab.json and merges.txt; pieces are written in GPT-2's byte alphabet. Lines of
    // `merges` that begin with # are skipped, all of them, as the slow tokenizer does (the `#`
    // trap). Throws Error.
    static ByteBpe load(std::string_view vocab_json, std::string_view merges,
                        const std::string& where);
    // The texts of `vocab` and `merges` in a tokenizer.json, whose merges are "a b" or ["a", "b"]
    // and all count. Throws Error.
    static ByteBpe load_json(std::string_view vocab, std::string_view merges, Rules,
                             const std::string& where);

    // Appends the ids of a stretch of valid UTF-8 between added tokens.
    void encode(std::string_view text, std::vector<int>& ids) const;
    std::vector<int> bytes(std::string_view text) const;  // the ids of its bytes
    std::vector<int> spell(std::string_view text) const { return bytes(text); }

    int size() const { return pieces_.size(); }
    std::string_view piece(int id) const { return pieces_[id]; }          // its bytes
    int find(std::string_view text) const { return pieces_.find(text); }  // -1: none
    bool is_byte(int id) const {
        return piece(id).size() == 1 && byte_id_[uint8_t(piece(id)[0])] == id;
    }

  private:
    friend class ByteBpeLoader;
    void find_whole_characters();
    void merge_word(std::string_view word, std::vector<int>& ids) const;
    size_t first_symbols(std::string_view word, int* symbols) const;

    Rules rules_;
    PieceList pieces_;
    MergeTable merges_;
    int byte_id_[256];
    // [65536] the piece that a character always becomes before anything else happens to its
    // bytes, or -1.
    std::vector<int> character_;
};

// The bytes that a text in GPT-2's alphabet stands for are appended to `bytes`; false when it holds
// any other character.
bool append_alphabet_bytes(std::string_view text, std::string& bytes);

// The end of the word that begins at text[at], by the pattern of Qwen2 and Llama-3, which differ in
// how many numerals make a word:
// (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,digits}|
// ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+
size_t word_end(std::string_view text, size_t at, int digits);

}  // namespace internvl
