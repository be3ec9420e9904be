#include "text/tokenizer.h"

#include <algorithm>

#include "text/char_class.h"
#include "text/stream_decoder.h"
#include "text/utf8.h"

namespace internvl {

namespace {

// The segments of a prompt as one text, with the stretches in which nothing is a control token.
struct JoinedText {
    std::string text;
    std::vector<std::pair<size_t, size_t>> plain;  // ascending

    bool is_plain(size_t begin, size_t end) const {
        const auto after =
            std::ranges::lower_bound(plain, begin + 1, {}, &std::pair<size_t, size_t>::second);
        return after != plain.end() && after->first < end;
    }
};

// Without white space at the front, or at the back, as Python's strip.
std::string_view strip_front(std::string_view text) {
    while (!text.empty()) {
        const CodePoint c = decode_at(text, 0);
        if (!is_stripped(c.value)) break;
        text.remove_prefix(size_t(c.bytes));
    }
    return text;
}
std::string_view strip_back(std::string_view text) {
    while (!text.empty()) {
        size_t at = text.size() - 1;
        while (at > 0 && (uint8_t(text[at]) & 0xc0) == 0x80) --at;
        if (!is_stripped(decode_at(text, at).value)) break;
        text.remove_suffix(text.size() - at);
    }
    return text;
}

}  // namespace

const AddedToken* Tokenizer::added(int id) const {
    if (added_.empty() || id < added_.front().id || id > added_.back().id) return nullptr;
    const auto found = std::ranges::lower_bound(added_, id, {}, &AddedToken::id);
    return found->id == id ? &*found : nullptr;
}

// Text between two added tokens. Where somebody typed it, a piece of the base vocabulary that is a
// control token (Yi's <|im_end|>, or the [UNUSED_TOKEN_145] whose place InternLM2's has taken) is
// spelled.
void Tokenizer::encode_piece(std::string_view text, const IsPlain& is_plain,
                             std::vector<int>& ids) const {
    std::string normalised;
    if (normalise_ == Normalise::nfc_between_tokens) text = normalised = normalise_nfc(text);
    const auto barred = [&](int id) { return std::ranges::binary_search(barred_, id); };
    std::visit(
        [&](const auto& base) {
            if (barred_.empty() || !is_plain(0, text.size())) return base.encode(text, ids);
            std::vector<int> made;
            base.encode(text, made);
            size_t at = 0;
            for (const int id : made) {
                const size_t begin = at;
                at += base.is_byte(id) ? 1 : base.piece(id).size();
                if (!barred(id) || !is_plain(begin, at)) {
                    ids.push_back(id);
                    continue;
                }
                std::vector<int> spelled = base.spell(base.piece(id));
                if (std::ranges::any_of(spelled, barred)) spelled = base.bytes(base.piece(id));
                ids.insert(ids.end(), spelled.begin(), spelled.end());
            }
        },
        base_);
}

std::vector<int> Tokenizer::encode(std::span<const Segment> segments, bool around) const {
    // Text that follows text is one piece for the pre-tokenizer, whoever wrote it.
    JoinedText all;
    for (const Segment& s : segments) {
        std::string part = is_valid_utf8(s.text) ? s.text : replace_invalid(s.text);
        if (normalise_ == Normalise::nfc) part = normalise_nfc(part);
        if (leading_blank_) part = replace_all(part, blank_mark, " ");
        if (leading_blank_ && all.text.empty() && !part.empty()) all.text = blank_mark;
        const size_t begin = all.text.size();
        all.text += part;
        if (s.kind == Segment::Kind::plain) all.plain.emplace_back(begin, all.text.size());
    }
    const std::string_view text = all.text;
    std::vector<int> ids;
    if (around) ids = first_ids_;
    const size_t first = ids.size();
    size_t piece = 0;
    bool strip_next = false;
    const auto flush = [&](size_t until, bool strip_end) {
        std::string_view part = text.substr(piece, until - piece);
        if (strip_next) part = strip_front(part);
        if (strip_end) part = strip_back(part);
        const size_t first_byte = size_t(part.data() - text.data());
        if (!part.empty())
            encode_piece(
                part,
                [&](size_t begin, size_t stop) {
                    return all.is_plain(first_byte + begin, first_byte + stop);
                },
                ids);
    };
    const size_t end = text.size();
    for (size_t at = 0; at < end; ++at) {
        while (at < end && !added_by_text_.may_begin(text[at])) ++at;
        const PrefixTree::Match match = added_by_text_.longest(text.substr(at));
        if (!match.length) continue;
        const AddedToken& token = added_[size_t(match.value)];
        if (all.is_plain(at, at + match.length) && !is_grounding_tag(token.text)) continue;
        flush(at, token.lstrip);
        ids.push_back(token.id);
        piece = at + match.length;
        strip_next = token.rstrip;
        at = piece - 1;
    }
    flush(end, false);
    if (leading_blank_ && ids.size() > first + 1 && ids[first] == find(blank_mark)) {
        const AddedToken* next = added(ids[first + 1]);
        if (next && next->special) ids.erase(ids.begin() + long(first));
    }
    if (around) ids.insert(ids.end(), last_ids_.begin(), last_ids_.end());
    return ids;
}

std::vector<int> Tokenizer::encode(std::string_view text) const {
    const Segment all{Segment::Kind::control, std::string(text)};
    return encode({&all, 1});
}

std::vector<int> Tokenizer::encode_plain(std::string_view text) const {
    const Segment all{Segment::Kind::plain, std::string(text)};
    return encode({&all, 1});
}

TokenText Tokenizer::text_of(int id, bool skip_special) const {
    using Kind = TokenText::Kind;
    if (const AddedToken* token = added(id)) {
        if (token->special && skip_special) return {};
        if (!decoding_.pieces) return {Kind::bytes, token->decoded};
        const bool in_run = token->special && !(token->additional && id >= base_size());
        return {in_run ? Kind::special : Kind::added, token->decoded};
    }
    if (id < 0 || id >= base_size()) return {};
    if (const auto* bytes = std::get_if<ByteBpe>(&base_)) return {Kind::bytes, bytes->piece(id)};
    const auto& pieces = std::get<PieceBpe>(base_);
    if (pieces.is_byte(id)) return {Kind::bytes, pieces.byte(id)};
    return {Kind::piece, pieces.surface(id)};
}

std::string Tokenizer::first_text_of(int id) const {
    return std::get<PieceBpe>(base_).surface_without_blank(id);
}

std::string Tokenizer::decode(std::span<const int> ids, bool skip_special) const {
    StreamDecoder decoder(*this, skip_special);
    for (const int id : ids) decoder.add(id);
    return decoder.finish();
}

std::optional<int> Tokenizer::find(std::string_view token) const {
    const PrefixTree::Match match = added_by_text_.longest(token);
    if (match.length > 0 && match.length == token.size()) return added_[size_t(match.value)].id;
    const std::string text = replace_all(token, blank_mark, " ");
    const int id = std::visit([&](const auto& base) { return base.find(text); }, base_);
    return id >= 0 ? std::optional(id) : std::nullopt;
}

int Tokenizer::base_size() const {
    return std::visit([](const auto& base) { return base.size(); }, base_);
}

int Tokenizer::size() const {
    return std::max(base_size(), added_.empty() ? 0 : added_.back().id + 1);
}

}  // namespace internvl
