#include "serve/answer_writer.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "text/utf8.h"

namespace internvl {

namespace {

constexpr double least_logprob = -9999;
constexpr std::string_view broken = "\xef\xbf\xbd";  // U+FFFD

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

// How many bytes of `text` are what a token spelled `raw` became; none while that is not certain.
// The decoder may have taken blanks away or put one before, and broken bytes are marks, one for
// each or for several.
std::optional<size_t> bytes_of(std::string_view raw, std::string_view text, bool last) {
    for (const size_t blank : {0, 1})
        if (text.substr(0, blank) == std::string_view(" ").substr(0, blank) &&
            text.substr(std::min(blank, text.size())).starts_with(raw))
            return blank + raw.size();
    size_t at = 0;
    for (size_t i = 0; i < raw.size();) {
        const std::string_view rest = text.substr(at);
        if (rest.starts_with(broken) && !raw.substr(i).starts_with(broken)) {
            at += broken.size();
            i += size_t(decode_at(raw, i).bytes);
        } else if (!rest.empty() && rest[0] == raw[i]) {
            ++at, ++i;
        } else if (rest.empty()) {
            return last ? std::optional(at) : std::nullopt;
        } else if (i == 0 && rest[0] == ' ') {
            ++at;
        } else {
            ++i;  // a blank, or the rest of what is a mark already
        }
    }
    return at;
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
    Entry entry{{chance_of(id, total)}, {}, {}, 0};
    entry.raw = entry.shown.chosen.bytes;
    if (tokenizer_.text_of(id, false).kind == TokenText::Kind::piece)
        entry.first = tokenizer_.first_text_of(id);
    for (const int other : likeliest()) entry.shown.top.push_back(chance_of(other, total));
    entries_.push_back(std::move(entry));
}

// Gives the decoded text to the tokens that it came from, so that their bytes joined are the text.
void AnswerWriter::attribute(bool last) {
    const std::string_view text = text_.decoded();
    for (; placed_ < entries_.size(); ++placed_) {
        Entry& e = entries_[placed_];
        TokenChance& chosen = e.shown.chosen;
        const std::string_view rest = text.substr(attributed_);
        std::optional<size_t> size =
            chosen.dropped ? std::optional<size_t>(0) : bytes_of(e.raw, rest, last);
        if (size == 0 && !chosen.dropped && rest.starts_with(e.first)) size = e.first.size();
        if (!size) return;
        chosen.bytes = rest.substr(0, *size);
        attributed_ += *size;
        e.end = attributed_;
    }
    if (!last || attributed_ == text.size()) return;
    for (auto e = entries_.rbegin(); e != entries_.rend(); ++e) {
        if (e->shown.chosen.dropped) continue;
        e->shown.chosen.bytes += text.substr(attributed_);
        attributed_ = text.size();
        return;
    }
}

bool AnswerWriter::push(int id) {
    ids_.push_back(id);
    fresh_ids_.push_back(id);
    if (top_ >= 0) note_chances(id);
    const bool more = text_.push(id);
    if (!more) over_ = true;
    if (top_ >= 0) attribute(over_);
    return more;
}

void AnswerWriter::finish() {
    text_.finish();
    over_ = true;
    attribute(true);
}

Delta AnswerWriter::take() {
    Delta delta{std::move(shown_), std::move(fresh_ids_), {}};
    shown_.clear();
    fresh_ids_.clear();
    const auto complete = [this](const Entry& e) {
        if (over_) return true;
        // A token without text may still be the one that the next text came from.
        const bool open = e.shown.chosen.bytes.empty() && !e.shown.chosen.dropped;
        return e.end <= text_.shown() && !(open && e.end == attributed_);
    };
    while (placed_ > 0 && complete(entries_.front())) {
        delta.logprobs.push_back(std::move(entries_.front().shown));
        entries_.pop_front();
        --placed_;
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
