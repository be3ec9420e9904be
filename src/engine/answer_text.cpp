#include "engine/answer_text.h"

#include <algorithm>

namespace internvl {

AnswerText::AnswerText(const Tokenizer& tokenizer, std::span<const std::string> stops,
                       std::function<bool(std::string_view)> on_text, bool reference_chunks)
    : decoder_(StreamDecoder(tokenizer, true)),
      stops_(stops.begin(), stops.end()),
      on_text_(std::move(on_text)) {
    if (reference_chunks) decoder_ = TextChunks(tokenizer, true);
    std::erase(stops_, "");
}

bool AnswerText::show(size_t end) {
    if (end <= shown_) return true;
    const std::string_view fresh = std::string_view(text_).substr(shown_, end - shown_);
    shown_ = end;
    return !on_text_ || on_text_(fresh);
}

// Bytes at the end of `text` that begin `stop`.
static size_t overlap(std::string_view text, std::string_view stop) {
    for (size_t n = std::min(text.size(), stop.size() - 1); n > 0; --n)
        if (text.substr(text.size() - n) == stop.substr(0, n)) return n;
    return 0;
}

bool AnswerText::add(const std::string& piece) {
    const size_t before = text_.size();
    text_ += piece;
    size_t cut = text_.npos, held = 0;
    for (const std::string& stop : stops_) {
        cut = std::min(cut, text_.find(stop, before - std::min(before, stop.size() - 1)));
        held = std::max(held, overlap(text_, stop));
    }
    if (cut != text_.npos) {
        text_.resize(cut);
        stopped_ = true;
        show(cut);
        return false;
    }
    return show(text_.size() - held);
}

bool AnswerText::push(int id) {
    StreamDecoder* const ours = std::get_if<StreamDecoder>(&decoder_);
    return add(ours ? ours->push(id) : std::get<TextChunks>(decoder_).put(id));
}

void AnswerText::finish() {
    if (stopped_) return;
    StreamDecoder* const ours = std::get_if<StreamDecoder>(&decoder_);
    if (add(ours ? ours->finish() : std::get<TextChunks>(decoder_).end())) show(text_.size());
}

}  // namespace internvl
