#include "text/stream_decoder.h"

#include <utility>

#include "text/utf8.h"

namespace internvl {

static constexpr std::string_view broken = "\xef\xbf\xbd";  // U+FFFD

std::string StreamDecoder::push(int id) {
    add(id);
    return std::exchange(ready_, {});
}

void StreamDecoder::add(int id) {
    const TokenText token = tokenizer_->text_of(id, skip_special_);
    switch (token.kind) {
        case TokenText::Kind::none:
            break;
        case TokenText::Kind::bytes:
            add_bytes(token.text);
            break;
        case TokenText::Kind::piece:
            add_piece(!in_run_ && rules().strip_first ? tokenizer_->first_text_of(id)
                                                      : std::string(token.text));
            break;
        case TokenText::Kind::special:
            add_special(token.text);
            break;
        case TokenText::Kind::added:
            add_between_runs(token.text);
            break;
    }
}

std::string StreamDecoder::finish(bool one_mark) {
    // The reference joins the last run by a blank even when it has given no text.
    const bool last_run = in_run_;
    if (!end_run(one_mark) && last_run && run_before_) write(" ");
    if (rules().clean_text) ready_ += text_clean_up_.finish();
    run_before_ = false;
    return std::exchange(ready_, {});
}

std::string StreamDecoder::held() const {
    return text_clean_up_.held() + run_clean_up_.held() + held_ + bytes_;
}

// SentencePiece turns every byte of a broken sequence into U+FFFD; byte-level vocabularies turn
// each longest part of a character into one.
void StreamDecoder::add_bytes(std::string_view bytes) {
    in_run_ = true;
    after_special_ = false;
    if (bytes_.empty() && is_valid_utf8(bytes)) return put(bytes);
    bytes_ += bytes;
    size_t done = 0;
    while (done < bytes_.size()) {
        const std::string_view rest = std::string_view(bytes_).substr(done);
        if (incomplete_tail(rest) == rest.size()) break;
        const CodePoint c = decode_at(rest, 0);
        put(c.valid ? rest.substr(0, size_t(c.bytes)) : broken);
        done += rules().pieces && !c.valid ? 1 : size_t(c.bytes);
    }
    bytes_.erase(0, done);
}

void StreamDecoder::end_bytes(bool one_mark) {
    const std::string bytes = std::exchange(bytes_, {});
    if (bytes.empty()) return;
    for (size_t i = 0; i < (rules().pieces && !one_mark ? bytes.size() : 1); ++i) put(broken);
}

void StreamDecoder::add_piece(std::string_view text) {
    end_bytes();
    // SentencePiece takes back the blank that it puts before every text.
    if (rules().strip_sections && !section_begun_ && text.starts_with(' ')) {
        text.remove_prefix(1);
        section_begun_ = true;
    }
    put(text);
    in_run_ = true;
    after_special_ = false;
}

void StreamDecoder::add_special(std::string_view text) {
    end_bytes();
    if (rules().blank_before_special && !after_special_ && (in_run_ || rules().blank_before_first))
        put_now(" ");
    put_now(std::exchange(held_, {}));
    put_now(text);
    in_run_ = after_special_ = true;
    section_begun_ = false;
}

void StreamDecoder::add_between_runs(std::string_view text) {
    end_run();
    if (run_before_) write(" ");
    write(text);
    run_before_ = true;
}

// Whether the run has given text.
bool StreamDecoder::end_run(bool one_mark) {
    end_bytes(one_mark);
    put_now(std::exchange(held_, {}));
    if (rules().clean_runs) write_run(run_clean_up_.finish());
    run_before_ |= run_written_;
    in_run_ = after_special_ = section_begun_ = false;
    return std::exchange(run_written_, false);
}

// Text of the run, held while a blank may still go before it.
void StreamDecoder::put(std::string_view text) {
    section_begun_ |= !text.empty();
    if (rules().blank_before_special && !skip_special_)
        held_ += text;
    else
        put_now(text);
}

void StreamDecoder::put_now(std::string_view text) {
    if (rules().clean_runs)
        write_run(run_clean_up_.push(text));
    else
        write_run(text);
}

void StreamDecoder::write_run(std::string_view text) {
    if (text.empty()) return;
    if (!run_written_ && run_before_) write(" ");
    run_written_ = true;
    write(text);
}

void StreamDecoder::write(std::string_view text) {
    if (rules().clean_text)
        ready_ += text_clean_up_.push(text);
    else
        ready_ += text;
}

}  // namespace internvl
