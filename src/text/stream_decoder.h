#pragma once
#include <string>

#include "text/tokenizer.h"

namespace internvl {

// Ids to text as they come: every complete character at once, never half a one. The pieces joined
// are exactly Tokenizer::decode of all ids.
class StreamDecoder {
  public:
    StreamDecoder(const Tokenizer& tokenizer, bool skip_special)
        : tokenizer_(tokenizer), skip_special_(skip_special) {}

    std::string push(int id);
    std::string finish();  // what is left, broken sequences as U+FFFD

  private:
    const Tokenizer& tokenizer_;
    bool skip_special_;
    std::string pending_;  // begins a character that is not complete
};

}  // namespace internvl
