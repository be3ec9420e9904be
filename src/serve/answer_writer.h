#pragma once
#include <deque>
#include <span>
#include <string>
#include <vector>

#include "engine/answer_text.h"
#include "text/chat_template.h"

namespace internvl {

// A token as it might have been.
struct Alternative {
    std::string bytes;
    float logprob;
};

struct TokenLogprob {
    std::string token;                  // its text, valid UTF-8
    std::string bytes;                  // what it gave to the text
    bool dropped = false;               // the text leaves it out
    float logprob = 0;                  // of the raw logits, at least -9999
    std::vector<Alternative> top = {};  // the likeliest first
};

// What has become certain of an answer: to be shown now.
struct Delta {
    std::string text;
    std::vector<int> ids;                // tokens since the last one, the stop token never
    std::vector<TokenLogprob> logprobs;  // of the tokens whose text is complete
    bool empty() const { return text.empty() && logprobs.empty(); }
};

// Makes the text of one choice from its tokens, with log-probabilities where asked for. For the
// thread that computes: nothing here waits. The deltas joined are the whole answer.
class AnswerWriter {
  public:
    // `top`: alternatives of each token, -1 for no log-probabilities.
    AnswerWriter(const Tokenizer&, const ChatTemplate&, const GenerateOptions&, int top);

    bool wants_logits() const { return top_ >= 0; }
    void logits(std::span<const float>);  // [vocab], before the token that was chosen from them
    bool push(int id);                    // false: a stop text ended the answer
    void finish();                        // no more tokens
    Delta take();                         // what is certain since the last call

    bool stopped() const { return text_.stopped(); }
    int count() const { return int(ids_.size()); }  // tokens
    // The whole answer with the tags of grounding in it.
    std::string tagged_text() const;

  private:
    struct Pending;
    void attribute(std::string_view text, bool last);

    const Tokenizer& tokenizer_;
    AnswerText text_;
    int top_;
    std::vector<int> ids_, fresh_ids_;
    std::vector<float> logits_;
    std::string shown_;  // since the last take
    std::vector<TokenLogprob> certain_;
};

}  // namespace internvl
