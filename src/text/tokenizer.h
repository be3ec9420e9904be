#pragma once
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "text/added_tokens.h"
#include "text/byte_bpe.h"
#include "text/piece_bpe.h"
#include "text/prefix_tree.h"

namespace internvl {

// A stretch of a prompt: in `plain` text (what a user typed) control strings such as <|im_end|>
// stay characters; the tags of grounding, <ref> and the like, are tokens there too (api.md 2.4).
struct Segment {
    enum class Kind { control, plain } kind;
    std::string text;
};

// How ids become text: what the reference's classes do differently (spec 7.2-7.7 and its
// corrections 2, 6, 13).
struct DecodeRules {
    bool pieces = false;  // SentencePiece: runs between added tokens, joined by a blank; otherwise
                          // all ids are one stream of bytes
    bool strip_first = false;           // the first piece of a run loses its blank (Llama)
    bool strip_sections = false;        // so does what follows a special token (a model whose
                                        // encoder puts a blank there)
    bool blank_before_special = false;  // and one goes before text that a special token follows
    bool blank_before_first = false;    // also when the special token comes first (InternLM2)
    bool clean_runs = false;            // clean up each run (InternLM2)
    bool clean_text = false;            // clean up the whole (`clean_up_tokenization_spaces`)
};

// What one id is to a decoder.
struct TokenText {
    enum class Kind {
        none,     // left out
        bytes,    // perhaps a part of a character
        piece,    // characters of a run
        special,  // a special token within a run
        added,    // a token that stands between runs
    } kind = Kind::none;
    std::string_view text;
};

struct TokenizerConfig;  // what a folder's tokenizer_config.json says

// Text to ids and back, as the reference does it with the same files (spec 7): Qwen2's two files,
// SentencePiece models as InternLM2, Phi-3 and Yi use them, and tokenizer.json of the byte-level
// kind (Llama-3, Qwen2). Safe to share between threads.
class Tokenizer {
  public:
    // Reads one of the model's files by name; none when it is not there.
    using ReadFile = std::function<std::optional<std::string>(const std::string& name)>;
    // Throws Error for files that are missing, malformed, or of a kind not supported.
    static Tokenizer load(const ReadFile& read, const std::string& where);

    // The ids of a whole prompt, with the start token where the files ask for one. Broken UTF-8
    // becomes U+FFFD first.
    std::vector<int> encode(std::string_view text) const;
    std::vector<int> encode_plain(std::string_view text) const;
    // `around` false: without what the files put before and after a whole prompt.
    std::vector<int> encode(std::span<const Segment> segments, bool around = true) const;
    // Broken sequences become U+FFFD; ids outside the vocabulary give nothing.
    std::string decode(std::span<const int> ids, bool skip_special) const;

    // An added token, or any piece of the base vocabulary (Yi has <|im_end|> and <img> there).
    std::optional<int> find(std::string_view token) const;
    const std::vector<AddedToken>& added_tokens() const { return added_; }  // by id
    int size() const;  // len(tokenizer): every id is below

    // For decoders.
    const DecodeRules& decode_rules() const { return decoding_; }
    TokenText text_of(int id, bool skip_special) const;
    std::string first_text_of(int id) const;  // of a piece that begins a run and is stripped

  private:
    void load_qwen2(std::string_view vocabulary, std::string_view merges, TokenizerConfig& config,
                    const std::string& where);
    void load_pieces(std::string_view model, TokenizerConfig& config, const std::string& where);
    void load_json(std::string_view file, TokenizerConfig& config, const std::string& where);
    void set_added(const TokenizerConfig& config, bool by_flag, const std::string& where);
    const AddedToken* added(int id) const;
    // Whether a stretch of the text has a byte that somebody typed.
    using IsPlain = std::function<bool(size_t begin, size_t end)>;
    void encode_piece(std::string_view text, const IsPlain& is_plain, std::vector<int>& ids) const;
    int base_size() const;

    enum class Normalise { none, nfc, nfc_between_tokens };
    std::variant<ByteBpe, PieceBpe> base_;
    Normalise normalise_ = Normalise::none;
    bool leading_blank_ = false;             // Llama's `legacy: false`
    std::vector<int> first_ids_, last_ids_;  // around every prompt
    DecodeRules decoding_;
    std::vector<AddedToken> added_;  // by id
    PrefixTree added_by_text_;       // indexes into added_
    // Pieces of the base vocabulary that are control tokens, by id: added ones, and what is written
    // <|so|>, which Yi's files do not all name.
    std::vector<int> barred_;
};

}  // namespace internvl
