#include "engine/answer_text.h"

#include <algorithm>

namespace internvl {

AnswerText::AnswerText(const Tokenizer& tokenizer, AnswerTextOptions options,
                       std::function<bool(std::string_view)> on_text)
    : tokenizer_(&tokenizer),
      options_(std::move(options)),
      decoder_(StreamDecoder(tokenizer, !options_.tags)),
      on_text_(std::move(on_text)) {
    if (options_.reference_chunks) decoder_ = TextChunks(tokenizer, true);
    std::erase(options_.stops, "");
}

AnswerText::AnswerText(const Tokenizer& tokenizer, std::span<const std::string> stops,
                       std::function<bool(std::string_view)> on_text, bool reference_chunks)
    : AnswerText(tokenizer,
                 {.stops = {stops.begin(), stops.end()}, .reference_chunks = reference_chunks},
                 std::move(on_text)) {}

bool AnswerText::show(size_t end) {
    if (end <= shown_) return true;
    const std::string_view fresh = std::string_view(text_).substr(shown_, end - shown_);
    shown_ = end;
    return !on_text_ || on_text_(fresh);
}

// The stop text that ends the answer, once that is certain; `held_from_` then tells from where on
// one may still begin. `last`: no text follows.
std::optional<AnswerText::Stop> AnswerText::find_stop(bool last) {
    const std::string_view text = text_;
    for (; held_from_ < text.size(); ++held_from_) {
        const std::string_view rest = text.substr(held_from_);
        size_t longest = 0;
        bool may_grow = false;
        for (const std::string& stop : options_.stops) {
            if (stop.size() > rest.size()) {
                may_grow |= !last && stop.starts_with(rest);
            } else if (rest.starts_with(stop) && held_from_ + stop.size() > quiet_end_) {
                longest = std::max(longest, stop.size());
            }
        }
        if (may_grow) return std::nullopt;
        if (longest > 0) return Stop{held_from_, held_from_ + longest};
    }
    return std::nullopt;
}

bool AnswerText::add(const std::string& piece, bool last) {
    decoded_ += piece;
    text_ += piece;
    if (tokens_ <= options_.quiet_tokens && !last) quiet_end_ = text_.size();
    const std::optional<Stop> stop = find_stop(last);
    if (!stop) return show(last ? text_.size() : held_from_);
    text_.resize(options_.include_stop ? stop->end : stop->at);
    stopped_ = true;
    show(text_.size());
    return false;
}

bool AnswerText::drops(int id) const {
    if (std::ranges::find(options_.dropped, id) != options_.dropped.end()) return true;
    if (tokenizer_->text_of(id, true).kind != TokenText::Kind::none) return false;
    return !options_.tags || !is_grounding_tag(tokenizer_->text_of(id, false).text);
}

std::string AnswerText::held() const {
    const StreamDecoder* const ours = std::get_if<StreamDecoder>(&decoder_);
    return ours ? ours->held() : std::string();
}

bool AnswerText::push(int id) {
    ++tokens_;
    StreamDecoder* const ours = std::get_if<StreamDecoder>(&decoder_);
    if (!ours) return add(std::get<TextChunks>(decoder_).put(id), false);
    const bool filter = options_.tags || !options_.dropped.empty();
    return add(filter && drops(id) ? "" : ours->push(id), false);
}

void AnswerText::finish() {
    if (stopped_) return;
    StreamDecoder* const ours = std::get_if<StreamDecoder>(&decoder_);
    add(ours ? ours->finish(options_.one_mark) : std::get<TextChunks>(decoder_).end(), true);
}

}  // namespace internvl
