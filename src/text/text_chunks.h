#pragma once
#include <cstdint>
#include <string>

#include "text/stream_decoder.h"

namespace internvl {

// Ids to text in the chunks of the reference's TextIteratorStreamer (spec 6.6): after a line break
// everything and a fresh start, after a Chinese character everything, otherwise up to the last
// blank. The reference decodes all ids since the last line break again for every token and cuts by
// position, so that a blank shown and then taken back by a clean-up costs a character; so it is
// here, without decoding again.
class TextChunks {
  public:
    TextChunks(const Tokenizer& tokenizer, bool skip_special) : decoder_(tokenizer, skip_special) {}

    std::string put(int id);  // often empty
    std::string end();        // the rest; ready for another text

  private:
    StreamDecoder decoder_;
    std::string unshown_;  // settled text that was not shown, without a blank
    size_t ahead_ = 0;     // characters that were shown before they were settled
    uint32_t last_ = 0;    // the last settled character
};

}  // namespace internvl
