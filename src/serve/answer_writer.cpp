#include "serve/answer_writer.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "text/utf8.h"

namespace internvl {

namespace {

constexpr double least_logprob = -9999;

// The tokens that begin and end turns, which no answer shows (api.md 1.2).
std::vector<int> turn_tokens(const Tokenizer& tokenizer, const ChatTemplate& chat) {
    std::vector<int> ids;
    for (const std::string* text :
         {&chat.system_prefix, &chat.user, &chat.assistant, &chat.separator, &chat.stop})
        for (size_t at = text->find("<|"); at != text->npos; at = text->find("<|", at + 2)) {
            const size_t end = text->find("|>", at);
            if (end == text->npos) break;
            if (const auto id = tokenizer.find(text->substr(at, end + 2 - at))) ids.push_back(*id);
        }
    return ids;
}

AnswerTextOptions text_options(const Tokenizer& tokenizer, const ChatTemplate& chat,
                               const GenerateOptions& g) {
    return {.stops = g.stop,
            .include_stop = g.include_stop,
            .quiet_tokens = g.min_new_tokens,
            .tags = !g.skip_special_tokens,
            .one_mark = true,
            .dropped = turn_tokens(tokenizer, chat)};
}

}  // namespace

AnswerWriter::AnswerWriter(const Tokenizer& tokenizer, const ChatTemplate& chat,
                           const GenerateOptions& g, int top)
    : tokenizer_(tokenizer),
      options_(text_options(tokenizer, chat, g)),
      text_(tokenizer, options_,
            [this](std::string_view fresh) {
                shown_ += fresh;
                return true;
            }),
      top_(top) {}

void AnswerWriter::logits(std::span<const float> logits) {
    if (top_ >= 0) logits_.assign(logits.begin(), logits.end());
}

// `total`: the logarithm of the sum of all exponentials.
TokenChance AnswerWriter::chance_of(int id, double total) const {
    TokenChance chance;
    chance.bytes = tokenizer_.text_of(id, false).text;
    chance.token = replace_invalid(chance.bytes);
    chance.dropped = text_.drops(id);
    const double logprob =
        size_t(id) < logits_.size() ? double(logits_[size_t(id)]) - total : least_logprob;
    chance.logprob = float(logprob > least_logprob ? std::min(logprob, 0.0) : least_logprob);
    return chance;
}

// The ids of the `top_` highest logits, the highest first, the lower id first among equals.
std::vector<int> AnswerWriter::likeliest() const {
    std::vector<int> best;
    for (size_t id = 0; top_ > 0 && id < logits_.size(); ++id) {
        const auto lower = [&](int other) { return logits_[size_t(other)] < logits_[id]; };
        if (best.size() == size_t(top_) && !lower(best.back())) continue;
        if (best.size() == size_t(top_)) best.pop_back();
        best.insert(std::ranges::find_if(best, lower), int(id));
    }
    return best;
}

void AnswerWriter::note_chances(int id) {
    double most = -INFINITY, sum = 0;
    for (const float x : logits_) most = std::max(most, double(x));
    for (const float x : logits_) sum += std::exp(double(x) - most);
    const double total = most + std::log(sum);
    Entry entry{{chance_of(id, total)}, entries_.empty() ? taken_ : entries_.back().end};
    for (const int other : likeliest()) entry.shown.top.push_back(chance_of(other, total));
    entries_.push_back(std::move(entry));
}

// Lets the last token's text end where the text now ends. What the tokens before it gave beyond
// the certain text may have changed: from there on it is the last token's.
void AnswerWriter::attribute() {
    const std::string whole = text_.decoded() + (over_ ? "" : text_.held());
    std::string_view now = std::string_view(whole).substr(decoded_);
    const size_t blank = now.starts_with(' ') && !expected_.starts_with(' ') ? 1 : 0;
    now.remove_prefix(blank);
    const auto same = size_t(std::ranges::mismatch(now, expected_).in1 - now.begin());
    for (Entry& e : entries_)
        if (e.end > decoded_) e.end = std::min(e.end, decoded_ + same) + blank;
    const auto last = std::ranges::find_if(entries_.rbegin(), entries_.rend(),
                                           [](const Entry& e) { return !e.shown.chosen.dropped; });
    for (auto e = entries_.rbegin(); last != entries_.rend() && e != std::next(last); ++e)
        e->end = whole.size();
    decoded_ = text_.decoded().size();
    expected_ = whole.substr(decoded_);
}

bool AnswerWriter::push(int id) {
    ids_.push_back(id);
    fresh_ids_.push_back(id);
    if (top_ >= 0) note_chances(id);
    const bool more = text_.push(id);
    if (!more) over_ = true;
    if (top_ >= 0) attribute();
    return more;
}

void AnswerWriter::finish() {
    text_.finish();
    over_ = true;
    if (top_ >= 0) attribute();
}

Delta AnswerWriter::take() {
    Delta delta{std::move(shown_), std::move(fresh_ids_), {}};
    shown_.clear();
    fresh_ids_.clear();
    const auto complete = [this](const Entry& e) {
        if (over_) return true;
        // A token without text may still be the one that the next text comes from.
        const bool open = e.end == taken_ && e.end == decoded_ && !e.shown.chosen.dropped;
        return e.end <= text_.shown() && !open;
    };
    while (!entries_.empty() && complete(entries_.front())) {
        Entry& e = entries_.front();
        e.shown.chosen.bytes = text_.decoded().substr(taken_, e.end - taken_);
        taken_ = e.end;
        delta.logprobs.push_back(std::move(e.shown));
        entries_.pop_front();
    }
    return delta;
}

std::string AnswerWriter::tagged_text() const {
    AnswerTextOptions options = options_;
    options.tags = true;
    AnswerText text(tokenizer_, options, {});
    for (const int id : ids_)
        if (!text.push(id)) return text.text();
    text.finish();
    return text.text();
}

}  // namespace internvl
