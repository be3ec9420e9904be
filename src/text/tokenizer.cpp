#include "text/tokenizer.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <set>

#include "base/error.h"
#include "base/json.h"
#include "text/char_class.h"
#include "text/utf8.h"

namespace internvl {

using nlohmann::json;

static std::string required(const Tokenizer::ReadFile& read, const char* name,
                            const std::string& where) {
    std::optional<std::string> text = read(name);
    if (!text) throw Error("a tokenizer file is missing", name, "", where);
    return std::move(*text);
}

Tokenizer Tokenizer::load(const ReadFile& read, const std::string& where) {
    Tokenizer t;
    if (!read("vocab.json")) {
        const bool piece_model = read("tokenizer.model").has_value();
        throw Error("the tokenizer is not supported yet", "vocab.json and merges.txt (Qwen2)",
                    piece_model              ? "a SentencePiece model"
                    : read("tokenizer.json") ? "tokenizer.json only"
                                             : "none",
                    where);
    }
    t.bpe_ = ByteBpe::load(required(read, "vocab.json", where), required(read, "merges.txt", where),
                           where);
    t.add_tokens(read, where);
    return t;
}

// Whether a field of a tokenizer file says true.
static bool flag(const json& token, const char* name) {
    const auto found = token.find(name);
    return found != token.end() && found->is_boolean() && found->get<bool>();
}

static int token_id(const json& id, int pieces, const std::string& where) {
    constexpr int most = 1 << 24;
    if (!id.is_number_integer() || id.get<int64_t>() < 0 || id.get<int64_t>() >= most)
        throw Error("an added token has an impossible id", fmt::format("about {}", pieces),
                    id.dump(), where);
    return id.get<int>();
}

void Tokenizer::add_tokens(const ReadFile& read, const std::string& where) {
    std::map<int, AddedToken> tokens;
    const std::string config_name = where + "/tokenizer_config.json";
    std::set<std::string> specials;
    if (const auto text = read("tokenizer_config.json")) {
        const json config = parse_json(*text, config_name);
        if (!config.is_object())
            throw Error("malformed tokenizer configuration", "an object", "", config_name);
        const json list = config.value("added_tokens_decoder", json::object());
        if (!list.is_object())
            throw Error("malformed added_tokens_decoder", "an object", "", config_name);
        for (const auto& [key, token] : list.items()) {
            const json id = json::parse(key, nullptr, false);
            if (!token.is_object() || !token.contains("content") || !token["content"].is_string())
                throw Error("malformed added token", "an object with content", token.dump(),
                            config_name);
            const int number = token_id(id, bpe_.size(), config_name);
            tokens[number] = {token["content"].get<std::string>(), number, flag(token, "special"),
                              flag(token, "lstrip"), flag(token, "rstrip")};
        }
        const json more = config.value("additional_special_tokens", json::array());
        for (const json& name : more)
            if (name.is_string()) specials.insert(name.get<std::string>());
    }
    if (const auto text = read("added_tokens.json")) {
        const std::string name = where + "/added_tokens.json";
        const json list = parse_json(*text, name);
        if (!list.is_object()) throw Error("malformed added tokens", "an object of ids", "", name);
        for (const auto& [content, id] : list.items()) {
            const int number = token_id(id, bpe_.size(), name);
            const auto [place, fresh] = tokens.try_emplace(number, AddedToken{content, number});
            if (place->second.text != content)
                throw Error("two added tokens share an id", place->second.text, content, name);
        }
    }
    for (auto& [id, token] : tokens) {
        if (token.text.empty())
            throw Error("an added token is empty", "", fmt::format("id {}", id), config_name);
        token.special |= specials.contains(token.text);
        if (!id_of_.emplace(token.text, id).second)
            throw Error("an added token has two ids", "", token.text, config_name);
        added_by_id_[id] = added_.size();
        begins_[uint8_t(token.text[0])] = true;
        added_.push_back(token);
    }
    for (size_t i = 0; i < added_.size(); ++i) by_length_.push_back(int(i));
    std::ranges::stable_sort(by_length_, std::greater<>(),
                             [&](int i) { return added_[size_t(i)].text.size(); });
}

// The first added token in text[from...], the longest where several begin.
Tokenizer::Match Tokenizer::next_match(std::string_view text, size_t from) const {
    for (size_t at = from; at < text.size(); ++at) {
        if (!begins_[uint8_t(text[at])]) continue;
        for (const int i : by_length_) {
            const AddedToken& token = added_[size_t(i)];
            if (text.compare(at, token.text.size(), token.text) == 0)
                return {at, token.text.size(), &token};
        }
    }
    return {text.size(), 0, nullptr};
}

// Without white space at the front, or at the back.
static std::string_view strip_front(std::string_view text) {
    while (!text.empty()) {
        const CodePoint c = decode_at(text, 0);
        if (!is_white_space(c.value)) break;
        text.remove_prefix(size_t(c.bytes));
    }
    return text;
}
static std::string_view strip_back(std::string_view text) {
    while (!text.empty()) {
        size_t at = text.size() - 1;
        while (at > 0 && (uint8_t(text[at]) & 0xc0) == 0x80) --at;
        if (!is_white_space(decode_at(text, at).value)) break;
        text.remove_suffix(text.size() - at);
    }
    return text;
}

std::vector<int> Tokenizer::encode(std::span<const Segment> segments) const {
    // Text that follows text is one piece for the pre-tokenizer, whoever wrote it: join first,
    // remember what is plain.
    std::string text;
    std::vector<std::pair<size_t, size_t>>
        plain;  // ascending ranges in which nothing is a control token
    for (const Segment& s : segments) {
        const size_t begin = text.size();
        text += normalise_nfc(is_valid_utf8(s.text) ? s.text : replace_invalid(s.text));
        if (s.kind == Segment::Kind::plain) plain.emplace_back(begin, text.size());
    }
    auto is_plain = [&, next = plain.begin()](size_t begin, size_t end) mutable {
        while (next != plain.end() && next->second <= begin) ++next;
        return next != plain.end() && next->first < end;
    };
    std::vector<int> ids;
    size_t piece = 0;
    bool strip_next = false;
    const auto flush = [&](size_t end, bool strip_end) {
        std::string_view part = std::string_view(text).substr(piece, end - piece);
        if (strip_next) part = strip_front(part);
        if (strip_end) part = strip_back(part);
        bpe_.encode(part, ids);
    };
    for (size_t from = 0;;) {
        const Match m = next_match(text, from);
        if (!m.token) break;
        from = m.at + 1;
        if (is_plain(m.at, m.at + m.length)) continue;
        flush(m.at, m.token->lstrip);
        ids.push_back(m.token->id);
        piece = from = m.at + m.length;
        strip_next = m.token->rstrip;
    }
    flush(text.size(), false);
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

std::string_view Tokenizer::token_bytes(int id, bool skip_special) const {
    const auto found = added_by_id_.find(id);
    if (found == added_by_id_.end()) return bpe_.piece(id);
    const AddedToken& token = added_[found->second];
    return skip_special && token.special ? std::string_view() : std::string_view(token.text);
}

std::string Tokenizer::decode(std::span<const int> ids, bool skip_special) const {
    std::string bytes;
    for (const int id : ids) bytes += token_bytes(id, skip_special);
    return replace_invalid(bytes);
}

std::optional<int> Tokenizer::find(std::string_view added_token) const {
    const auto found = id_of_.find(added_token);
    return found == id_of_.end() ? std::nullopt : std::optional<int>(found->second);
}

int Tokenizer::size() const {
    return std::max(bpe_.size(), added_.empty() ? 0 : added_.back().id + 1);
}

}  // namespace internvl
