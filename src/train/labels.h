#pragma once
#include <span>
#include <string>
#include <vector>

#include "text/chat_template.h"
#include "text/tokenizer.h"
#include "train/sample.h"

namespace internvl {

struct Utterance {
    std::string from;  // "human", "gpt" or "system"
    std::string value;
};

struct LabelOptions {
    std::string system;             // message of the template or of the checkpoint
    std::span<const int> pictures;  // <IMG_CONTEXT> tokens of each, in order
    size_t most_tokens = 4096;      // what is longer is cut on the right
    int pad_token = -1;
};

struct LabelledSample {
    Sample sample;
    // The parts of the conversation have not as many tokens as the whole, usually because a
    // separator stands in a message: nothing of it is learnt (spec 9.2).
    bool mismatch = false;
};

// A conversation as ids, and which of them are to be learnt: the routine of the original that
// belongs to the template, with what it does to odd conversations (spec 9.2 and its corrections 10
// to 20). Throws Error for what the original rejects: roles out of turn, pictures without a place.
LabelledSample label_conversation(const ChatTemplate&, const Tokenizer&, std::span<const Utterance>,
                                  const LabelOptions&);

}  // namespace internvl
