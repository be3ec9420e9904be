#include "text/tokenizer_json.h"

#include <map>

#include "base/error.h"

namespace internvl {

using nlohmann::json;

namespace {

struct KnownPattern {
    const char* regex;
    int digits;
};
constexpr KnownPattern patterns[] = {
    {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     1},  // Qwen2
    {R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)",
     3},  // Llama-3
};

// The members of one JSON object as they stand, so that the large ones need not be built. Only
// strings and brackets are looked at: what the text is worth shows when a member is parsed.
class Members {
  public:
    Members(std::string_view object, std::string where) : text_(object), where_(std::move(where)) {
        skip_blanks();
        expect('{');
        for (skip_blanks(); peek() != '}'; skip_blanks()) {
            if (!members_.empty()) expect(',');
            skip_blanks();
            const size_t begin = at_;
            skip_string();
            const std::string key(text_.substr(begin + 1, at_ - begin - 2));
            skip_blanks();
            expect(':');
            skip_blanks();
            const size_t value = at_;
            skip_value();
            if (!members_.emplace(key, text_.substr(value, at_ - value)).second)
                throw Error("a key stands twice in one JSON object", "", key, where_);
        }
    }

    std::string_view operator[](const std::string& key) const {  // "null" when it is not there
        const auto found = members_.find(key);
        return found == members_.end() ? "null" : found->second;
    }
    json parsed(const std::string& key) const {
        return parse_json((*this)[key], where_ + ": " + key);
    }

  private:
    char peek() const {
        if (at_ >= text_.size()) end();
        return text_[at_];
    }
    [[noreturn]] void end() const { throw Error("not valid JSON", "more", "its end", where_); }
    void expect(char c) {
        if (peek() != c)
            throw Error("not valid JSON", std::string(1, c), std::string(1, peek()), where_);
        ++at_;
    }
    void skip_blanks() {
        while (at_ < text_.size() && std::string_view(" \t\r\n").find(text_[at_]) != text_.npos)
            ++at_;
    }
    void skip_string() {
        expect('"');
        size_t at = at_;
        while (at < text_.size() && text_[at] != '"') at += text_[at] == '\\' ? 2 : 1;
        at_ = at;
        peek();
        ++at_;
    }
    // Up to the comma or bracket behind it.
    void skip_value() {
        size_t depth = 0;
        for (;; ++at_) {
            switch (peek()) {
                case '"':
                    skip_string();
                    --at_;
                    break;
                case '{':
                case '[':
                    ++depth;
                    break;
                case '}':
                case ']':
                    if (depth == 0) return;
                    --depth;
                    break;
                case ',':
                    if (depth == 0) return;
            }
        }
    }

    std::string_view text_;
    std::string where_;
    size_t at_ = 0;
    std::map<std::string, std::string_view> members_;
};

[[noreturn]] void unsupported(const char* what, const char* expected, const json& found,
                              const std::string& where) {
    throw Error(std::string("tokenizer.json has a ") + what + " that is not supported", expected,
                found.dump().substr(0, 300), where);
}

std::string type_of(const json& part) {
    const auto found = part.is_object() ? part.find("type") : part.end();
    if (!part.is_object() || found == part.end() || !found->is_string()) return {};
    return found->get<std::string>();
}

// The parts of a Sequence, or the part itself.
std::vector<json> flatten(const json& part, const char* list) {
    if (part.is_null()) return {};
    if (type_of(part) == "Sequence" && part.contains(list) && part[list].is_array())
        return part[list].get<std::vector<json>>();
    return {part};
}

bool is(const json& part, const char* name, const json& value) {
    return part.value(name, json()) == value;
}

bool read_normalizer(const json& part, const std::string& where) {
    bool nfc = false;
    for (const json& step : flatten(part, "normalizers")) {
        if (type_of(step) != "NFC") unsupported("normalizer", "NFC or none", step, where);
        nfc = true;
    }
    return nfc;
}

// A Split by one of the known patterns, then bytes.
int read_pre_tokenizer(const json& part, const std::string& where) {
    const std::vector<json> steps = flatten(part, "pretokenizers");
    if (steps.size() != 2 || type_of(steps[0]) != "Split" || type_of(steps[1]) != "ByteLevel")
        unsupported("pre_tokenizer", "Split and ByteLevel", part, where);
    const json& split = steps[0];
    const json pattern = split.value("pattern", json());
    const json regex = pattern.is_object() ? pattern.value("Regex", json()) : json();
    if (!is(split, "behavior", "Isolated") || !is(split, "invert", false))
        unsupported("pre_tokenizer", "an isolating Split", split, where);
    if (!is(steps[1], "add_prefix_space", false) || !is(steps[1], "use_regex", false))
        unsupported("pre_tokenizer", "ByteLevel without a pattern of its own", steps[1], where);
    for (const KnownPattern& known : patterns)
        if (regex == known.regex) return known.digits;
    unsupported("pattern", "that of Qwen2 or of Llama-3", pattern, where);
}

void check_model(const Members& model, const std::string& where) {
    if (model.parsed("type") != "BPE") unsupported("model", "BPE", model.parsed("type"), where);
    for (const char* name : {"dropout", "continuing_subword_prefix", "end_of_word_suffix",
                             "byte_fallback", "fuse_unk"}) {
        const json value = model.parsed(name);
        if (!value.is_null() && value != false && value != "")
            unsupported("model", "byte-level BPE", {{name, value}}, where);
    }
}

// The ids that a template puts before and behind a single text.
void read_template(const json& part, TokenizerJson& out, const std::string& where) {
    const json single = part.value("single", json()), ids = part.value("special_tokens", json());
    std::vector<int>* side = &out.first_ids;
    if (!single.is_array()) unsupported("post_processor", "a template", part, where);
    for (const json& step : single) {
        if (step.is_object() && step.contains("Sequence")) {
            side = &out.last_ids;
            continue;
        }
        try {
            const std::string name = step.at("SpecialToken").at("id");
            for (const json& id : ids.at(name).at("ids")) side->push_back(id.get<int>());
        } catch (const json::exception&) {
            unsupported("post_processor", "special tokens with ids", part, where);
        }
    }
}

}  // namespace

TokenizerJson read_tokenizer_json(std::string_view file, const std::string& where) {
    const Members top(file, where);
    const Members model(top["model"], where + ": model");
    check_model(model, where);
    TokenizerJson out;
    out.nfc = read_normalizer(top.parsed("normalizer"), where);
    ByteBpe::Rules rules;
    rules.digits = read_pre_tokenizer(top.parsed("pre_tokenizer"), where);
    rules.whole_words = model.parsed("ignore_merges") == true;
    const json decoder = top.parsed("decoder");
    if (type_of(decoder) != "ByteLevel") unsupported("decoder", "ByteLevel", decoder, where);
    for (const json& step : flatten(top.parsed("post_processor"), "processors")) {
        const std::string type = type_of(step);
        if (type == "TemplateProcessing")
            read_template(step, out, where);
        else if (type != "ByteLevel")
            unsupported("post_processor", "TemplateProcessing", type, where);
    }
    out.added_tokens = top.parsed("added_tokens");
    out.bpe = ByteBpe::load_json(model["vocab"], model["merges"], rules, where);
    return out;
}

}  // namespace internvl
