#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text/merge_table.h"
#include "text/piece_list.h"
#include "text/prefix_tree.h"

namespace internvl {

inline constexpr std::string_view blank_mark = "\xe2\x96\x81";  // U+2581, a blank in piece models

// SentencePiece's byte-pair encoding with byte fallback (spec 7.4-7.6): user-defined pieces are cut
// out first, then neighbours are joined to the piece with the highest score, the leftmost of equal
// ones; a character that is no piece becomes its bytes. Blanks are written as they are here, not as
// U+2581, which text may hold as well and which means the same.
class PieceBpe {
  public:
    static PieceBpe load(std::string_view model_file, const std::string& where);  // throws Error

    // Appends the ids of a stretch of valid UTF-8 between added tokens.
    void encode(std::string_view text, std::vector<int>& ids) const;
    std::vector<int> bytes(std::string_view text) const;  // the ids of its bytes
    std::vector<int> spell(std::string_view text) const;  // of its characters

    int size() const { return pieces_.size(); }
    std::string_view piece(int id) const { return pieces_[id]; }
    int find(std::string_view text) const { return pieces_.find(text); }  // -1: none
    bool is_byte(int id) const;
    std::string_view byte(int id) const;  // of a byte piece
    // What it adds to decoded text, if it is no byte piece: nothing for a control piece.
    std::string_view surface(int id) const;
    // The same when Python has cut the blank off before it looked the piece up.
    std::string surface_without_blank(int id) const;

    bool dummy_prefix() const { return dummy_prefix_; }
    void set_dummy_prefix(bool on) { dummy_prefix_ = on; }

  private:
    enum class Kind : uint8_t { normal, user_defined, control, unknown, byte };
    bool may_join(uint32_t left, uint32_t right) const;
    void note_neighbours(std::string_view piece);
    void find_merges(const std::vector<float>& scores);
    int symbol_of(std::string_view character, uint32_t code_point) const;
    size_t word_end(std::string_view text, size_t at) const;
    void merge_word(std::string_view word, std::vector<int>& ids) const;
    void append_symbol(int symbol, std::vector<int>& ids) const;

    PieceList pieces_;         // found by text: normal and user-defined ones
    std::vector<Kind> kinds_;  // [pieces]
    PrefixTree user_defined_;
    MergeTable merges_;
    std::vector<int> character_;    // [65536] the symbol of a character
    std::vector<uint64_t> joints_;  // bits: pairs of characters that are neighbours in some piece
    int byte_id_[256];
    std::string unknown_surface_;
    bool dummy_prefix_ = false;
};

}  // namespace internvl
