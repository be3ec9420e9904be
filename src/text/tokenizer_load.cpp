// Which files make which tokenizer: decided by what tokenizer_config.json says and which files are
// there, never by a model's name.
#include <fmt/format.h>

#include "base/error.h"
#include "text/tokenizer.h"
#include "text/tokenizer_json.h"

namespace internvl {

using nlohmann::json;

// tokenizer_config.json and what goes with it.
struct TokenizerConfig {
    json values = json::object();
    std::string class_name;  // without "Fast" at its end
    AddedTokens added;

    bool flag(const char* name, bool otherwise) const {
        const auto found = values.find(name);
        return found != values.end() && found->is_boolean() ? found->get<bool>() : otherwise;
    }
};

static json read_object(const Tokenizer::ReadFile& read, const char* name,
                        const std::string& where) {
    const std::optional<std::string> text = read(name);
    if (!text) return json::object();
    json object = parse_json(*text, where + "/" + name);
    if (!object.is_object())
        throw Error("malformed tokenizer file", "an object", object.type_name(),
                    where + "/" + name);
    return object;
}

static TokenizerConfig read_config(const Tokenizer::ReadFile& read, const std::string& where) {
    TokenizerConfig config{read_object(read, "tokenizer_config.json", where), "",
                           AddedTokens(where)};
    const json name = config.values.value("tokenizer_class", json());
    if (name.is_string()) config.class_name = name.get<std::string>();
    if (config.class_name.ends_with("Fast")) config.class_name.resize(config.class_name.size() - 4);
    config.added.read_config(config.values);
    if (!config.values.contains("added_tokens_decoder"))
        config.added.read_special_map(read_object(read, "special_tokens_map.json", where));
    config.added.read_ids(read_object(read, "added_tokens.json", where));
    return config;
}

Tokenizer Tokenizer::load(const ReadFile& read, const std::string& where) {
    TokenizerConfig config = read_config(read, where);
    const std::string& name = config.class_name;
    Tokenizer t;
    if (name == "InternLM2Tokenizer" || name == "LlamaTokenizer")
        if (const auto model = read("tokenizer.model")) {
            t.load_pieces(*model, config, where);
            return t;
        }
    if (name.empty() || name == "Qwen2Tokenizer")
        if (const auto vocabulary = read("vocab.json")) {
            const auto merges = read("merges.txt");
            if (!merges) throw Error("a tokenizer file is missing", "merges.txt", "", where);
            t.load_qwen2(*vocabulary, *merges, config, where);
            return t;
        }
    if (const auto file = read("tokenizer.json")) {
        t.load_json(*file, config, where);
        return t;
    }
    throw Error("no tokenizer that is supported",
                "vocab.json and merges.txt (Qwen2Tokenizer), tokenizer.model (InternLM2Tokenizer, "
                "LlamaTokenizer) or tokenizer.json",
                name.empty() ? "none of them" : "none of them for " + name, where);
}

void Tokenizer::load_qwen2(std::string_view vocabulary, std::string_view merges,
                           TokenizerConfig& config, const std::string& where) {
    base_ = ByteBpe::load(vocabulary, merges, where);
    normalise_ = Normalise::nfc;
    for (const char* role : {"eos_token", "unk_token", "pad_token"})
        config.added.set_default(role, "<|endoftext|>");
    set_added(config, false, where);
}

void Tokenizer::load_pieces(std::string_view model, TokenizerConfig& config,
                            const std::string& where) {
    PieceBpe pieces = PieceBpe::load(model, where + "/tokenizer.model");
    const bool internlm2 = config.class_name == "InternLM2Tokenizer";
    const bool legacy = internlm2 || config.flag("legacy", true);
    leading_blank_ = !legacy;
    if (!legacy) pieces.set_dummy_prefix(false);
    decoding_.pieces = true;
    decoding_.strip_first = !internlm2;
    decoding_.strip_sections = pieces.dummy_prefix();
    decoding_.blank_before_special = legacy;
    decoding_.blank_before_first = internlm2;
    decoding_.clean_runs = internlm2;
    decoding_.clean_text = config.flag("clean_up_tokenization_spaces", false);
    base_ = std::move(pieces);
    config.added.set_default("unk_token", "<unk>");
    config.added.set_default("bos_token", "<s>");
    config.added.set_default("eos_token", "</s>");
    if (internlm2) config.added.set_default("pad_token", "</s>");
    set_added(config, false, where);
    const auto put = [&](const char* switch_name, bool otherwise, const char* role,
                         std::vector<int>& ids) {
        if (!config.flag(switch_name, otherwise)) return;
        const auto text = config.added.role(role);
        const auto id = text ? find(*text) : std::nullopt;
        if (!id) throw Error("the tokenizer lacks a token that it asks for", role, "", where);
        ids.push_back(*id);
    };
    put("add_bos_token", true, "bos_token", first_ids_);
    put("add_eos_token", false, "eos_token", last_ids_);
}

void Tokenizer::load_json(std::string_view file, TokenizerConfig& config,
                          const std::string& where) {
    TokenizerJson parts = read_tokenizer_json(file, where + "/tokenizer.json");
    base_ = std::move(parts.bpe);
    if (parts.nfc) normalise_ = Normalise::nfc_between_tokens;
    first_ids_ = std::move(parts.first_ids);
    last_ids_ = std::move(parts.last_ids);
    decoding_.clean_text = config.flag("clean_up_tokenization_spaces", true);
    config.added.read_list(parts.added_tokens);
    set_added(config, true, where);
    for (const std::vector<int>* ids : {&first_ids_, &last_ids_})
        for (const int id : *ids)
            if (id < 0 || id >= size())
                throw Error("the post_processor adds an id outside the vocabulary",
                            fmt::format("0 to {}", size() - 1), fmt::format("{}", id),
                            where + "/tokenizer.json");
    // The fast classes decode added tokens through the byte alphabet like all others.
    for (AddedToken& token : added_)
        if (std::string bytes; append_alphabet_bytes(token.text, bytes)) token.decoded = bytes;
}

void Tokenizer::set_added(const TokenizerConfig& config, bool by_flag, const std::string& where) {
    added_ = config.added.finish([&](std::string_view text) { return find(text).value_or(-1); },
                                 base_size(), by_flag);
    const auto is_byte = [&](int id) {
        return std::visit([&](const auto& base) { return base.is_byte(id); }, base_);
    };
    for (size_t i = 0; i < added_.size(); ++i) {
        AddedToken& token = added_[i];
        // Text could not be written without it.
        if (is_byte(token.id))
            throw Error("an added token has the id of a byte", "", token.text, where);
        added_by_text_.add(token.text, int(i));
        token.decoded = token.text;
    }
    std::visit(
        [&](const auto& base) {
            for (int id = 0; id < base.size(); ++id) {
                const std::string_view piece = base.piece(id);
                const bool marked =
                    piece.size() > 4 && piece.starts_with("<|") && piece.ends_with("|>");
                if (marked || added(id)) barred_.push_back(id);
            }
        },
        base_);
}

}  // namespace internvl
