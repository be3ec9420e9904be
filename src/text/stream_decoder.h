#pragma once
#include <string>
#include <string_view>

#include "text/clean_up.h"
#include "text/tokenizer.h"

namespace internvl {

// Ids to text as they come: every complete character at once, never half a one, and nothing that
// later ids can still change. The pieces joined are exactly Tokenizer::decode of all ids, which is
// made of them. Held back are at most an incomplete character, a blank and a letter or two that a
// clean-up may touch, and, where special tokens are shown and the reference puts a blank before
// the text that one follows (InternLM2, Yi), that text until it ends.
class StreamDecoder {
  public:
    StreamDecoder(const Tokenizer& tokenizer, bool skip_special)
        : tokenizer_(&tokenizer), skip_special_(skip_special) {}

    std::string push(int id);
    void add(int id);  // like push, but its text comes with what is given next
    // What is left, broken sequences as U+FFFD; ready for another text. `one_mark`: an incomplete
    // character at the end is a single one, also where the reference writes one for each byte.
    std::string finish(bool one_mark = false);
    // What the tokens gave so far and push has not returned, a begun character as it stands. Later
    // ones may still put a blank before it, or change it from some byte on.
    std::string held() const;

  private:
    const DecodeRules& rules() const { return tokenizer_->decode_rules(); }
    void add_bytes(std::string_view bytes);
    void add_piece(std::string_view text);
    void add_special(std::string_view text);
    void add_between_runs(std::string_view text);
    void end_bytes(bool one_mark = false);
    bool end_run(bool one_mark = false);
    void put(std::string_view text);
    void put_now(std::string_view text);
    void write_run(std::string_view text);
    void write(std::string_view text);

    const Tokenizer* tokenizer_;
    bool skip_special_;
    std::string bytes_;           // begin a character that is not complete
    bool run_before_ = false;     // something was written before this run
    bool in_run_ = false;         // the run has a token
    bool run_written_ = false;    // and has given text
    bool after_special_ = false;  // its last token was a special one
    bool section_begun_ = false;  // text stands behind the last special token
    std::string held_;            // that text, while a blank may still go before it
    CleanUp run_clean_up_, text_clean_up_;
    std::string ready_;
};

}  // namespace internvl
