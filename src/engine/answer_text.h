#pragma once
#include <functional>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "text/stream_decoder.h"
#include "text/text_chunks.h"

namespace internvl {

// How the text of an answer is made.
struct AnswerTextOptions {
    std::vector<std::string> stops = {};  // empty ones are ignored
    bool include_stop = false;            // the text keeps the stop text that ended it
    int quiet_tokens = 0;                 // a stop text counts only when it ends after so many
    // What the reference's streamer yields is shown, not every character at once.
    bool reference_chunks = false;
    bool tags = false;      // the tags of grounding stay in the text
    bool one_mark = false;  // an incomplete character at the end is one U+FFFD, whatever the bytes
    std::vector<int> dropped = {};  // ids that give no text, besides special ones
};

// The text of an answer while its tokens arrive: whole characters only, and nothing that may turn
// out to be the start of a stop text. Of stop texts the one that begins first ends the answer, and
// of those that begin together the longest, wherever tokens end.
class AnswerText {
  public:
    AnswerText(const Tokenizer&, AnswerTextOptions, std::function<bool(std::string_view)> on_text);
    AnswerText(const Tokenizer&, std::span<const std::string> stops,
               std::function<bool(std::string_view)> on_text, bool reference_chunks = false);

    bool push(int id);  // false: the answer is over, by a stop text or because on_text said so
    void finish();      // no more tokens
    const std::string& text() const { return text_; }  // up to the stop text, or behind it
    bool stopped() const { return stopped_; }
    // All that is certain of the text so far, also what stands behind a stop text or may begin one,
    // and what the last tokens gave beyond (StreamDecoder::held).
    const std::string& decoded() const { return decoded_; }
    std::string held() const;
    size_t shown() const { return shown_; }  // bytes that on_text has heard
    bool drops(int id) const;                // whether the text leaves this token out

  private:
    struct Stop {
        size_t at, end;
    };
    bool add(const std::string& piece, bool last);
    bool show(size_t end);
    std::optional<Stop> find_stop(bool last);

    const Tokenizer* tokenizer_;
    AnswerTextOptions options_;
    std::variant<StreamDecoder, TextChunks> decoder_;
    std::function<bool(std::string_view)> on_text_;
    std::string text_, decoded_;
    size_t shown_ = 0;
    size_t held_from_ = 0;  // no stop text begins before
    size_t quiet_end_ = 0;  // bytes of the quiet tokens
    int tokens_ = 0;
    bool stopped_ = false;
};

}  // namespace internvl
