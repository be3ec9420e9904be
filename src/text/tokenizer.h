#pragma once
#include <functional>
#include <map>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/byte_bpe.h"

namespace internvl {

// A stretch of a prompt: in `plain` text (what a user typed) control strings such as <|im_end|>
// stay characters.
struct Segment {
    enum class Kind { control, plain } kind;
    std::string text;
};

// A token that was added to the vocabulary: matched as it stands before anything else is cut
// (spec 7.2).
struct AddedToken {
    std::string text;
    int id = 0;
    bool special = false;                 // left out when special tokens are skipped
    bool lstrip = false, rstrip = false;  // takes the white space before or behind it
};

// Text to ids and back, as the reference's slow tokenizer does it (spec 7.1-7.3). Safe to share
// between threads.
class Tokenizer {
  public:
    // Reads one of the model's files by name; none when it is not there.
    using ReadFile = std::function<std::optional<std::string>(const std::string& name)>;
    // Throws Error for files that are missing, malformed, or of a kind not supported yet.
    static Tokenizer load(const ReadFile& read, const std::string& where);

    // Broken UTF-8 becomes U+FFFD first.
    std::vector<int> encode(std::string_view text) const;
    std::vector<int> encode_plain(std::string_view text) const;
    std::vector<int> encode(std::span<const Segment> segments) const;
    // Broken sequences become U+FFFD; ids outside the vocabulary give nothing.
    std::string decode(std::span<const int> ids, bool skip_special) const;
    // The bytes of one token, empty for a special one that is to be skipped.
    std::string_view token_bytes(int id, bool skip_special) const;

    std::optional<int> find(std::string_view added_token) const;
    const std::vector<AddedToken>& added_tokens() const { return added_; }  // by id
    int size() const;  // len(tokenizer): every id is below

  private:
    void add_tokens(const ReadFile& read, const std::string& where);
    struct Match {
        size_t at, length;
        const AddedToken* token;  // null: none
    };
    Match next_match(std::string_view text, size_t from) const;

    ByteBpe bpe_;
    std::vector<AddedToken> added_;
    std::vector<int> by_length_;  // indexes into added_, longest first
    bool begins_[256] = {};       // bytes that begin an added token
    std::map<std::string, int, std::less<>> id_of_;
    std::map<int, size_t> added_by_id_;
};

}  // namespace internvl
