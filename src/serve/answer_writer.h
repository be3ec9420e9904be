#pragma once
#include <deque>
#include <span>
#include <string>
#include <vector>

#include "engine/answer_text.h"
#include "internvl/options.h"
#include "text/chat_template.h"

namespace internvl {

// A token with its log-probability under the raw logits, at least -9999.
struct TokenChance {
    std::string token;     // its text, valid UTF-8
    std::string bytes;     // what it gives to the text
    bool dropped = false;  // the text leaves it out
    float logprob = 0;
};

struct TokenLogprob {
    TokenChance chosen;
    std::vector<TokenChance> top = {};  // the likeliest first
};

// What has become certain of an answer: to be shown now.
struct Delta {
    std::string text = {};
    std::vector<int> ids = {};                // tokens since the last one, the stop token never
    std::vector<TokenLogprob> logprobs = {};  // of the tokens whose text is complete
    bool empty() const { return text.empty() && logprobs.empty(); }
};

// Makes the text of one choice from its tokens, with log-probabilities where asked for. For the
// thread that computes: nothing here waits. The deltas joined are the whole answer, whenever they
// are taken.
class AnswerWriter {
  public:
    // `top`: alternatives of each token, -1 for no log-probabilities.
    AnswerWriter(const Tokenizer&, const ChatTemplate&, const GenerateOptions&, int top);
    AnswerWriter(const AnswerWriter&) = delete;
    AnswerWriter& operator=(const AnswerWriter&) = delete;

    bool wants_logits() const { return top_ >= 0; }
    void logits(std::span<const float>);  // [vocab], before the token that was chosen from them
    bool push(int id);                    // false: a stop text ended the answer
    void finish();                        // no more tokens
    Delta take();                         // what has become certain since the last call

    bool stopped() const { return text_.stopped(); }  // by a stop text
    int count() const { return int(ids_.size()); }    // tokens
    // The whole answer with the tags of grounding in it.
    std::string tagged_text() const;

  private:
    // A token whose log-probability is not shown yet.
    struct Entry {
        TokenLogprob shown;
        size_t end = 0;  // of its text among all that was decoded, while that is not certain too
    };
    TokenChance chance_of(int id, double total) const;
    std::vector<int> likeliest() const;
    void note_chances(int id);
    void attribute();

    const Tokenizer& tokenizer_;
    AnswerTextOptions options_;
    AnswerText text_;
    int top_;
    std::vector<int> ids_, fresh_ids_;
    std::vector<float> logits_;
    std::string shown_;          // since the last take
    std::deque<Entry> entries_;  // not taken yet
    size_t decoded_ = 0;         // bytes of the text that were certain before the last token
    std::string expected_;       // what the tokens gave beyond
    size_t taken_ = 0;           // bytes of the text whose tokens were taken
    bool over_ = false;
};

}  // namespace internvl
