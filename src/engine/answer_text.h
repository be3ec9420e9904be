#pragma once
#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "text/stream_decoder.h"
#include "text/text_chunks.h"

namespace internvl {

// The text of an answer while its tokens arrive: whole characters only, and nothing that may turn
// out to be the start of a stop text.
class AnswerText {
  public:
    // An empty stop text is ignored. `reference_chunks`: on_text hears what the reference's
    // streamer yields, not every character at once.
    AnswerText(const Tokenizer&, std::span<const std::string> stops,
               std::function<bool(std::string_view)> on_text, bool reference_chunks = false);

    bool push(int id);  // false: the answer is over, by a stop text or because on_text said so
    void finish();      // no more tokens
    const std::string& text() const { return text_; }  // up to the stop text
    bool stopped() const { return stopped_; }

  private:
    bool add(const std::string& piece);
    bool show(size_t end);

    std::variant<StreamDecoder, TextChunks> decoder_;
    std::vector<std::string> stops_;
    std::function<bool(std::string_view)> on_text_;
    std::string text_;
    size_t shown_ = 0;
    bool stopped_ = false;
};

}  // namespace internvl
