#include "text/added_tokens.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>

#include "base/error.h"

namespace internvl {

using nlohmann::json;

// In the order in which those without an id get one.
static constexpr const char* role_names[] = {"bos_token", "eos_token", "unk_token", "sep_token",
                                             "pad_token", "cls_token", "mask_token"};

// Whether a field of a tokenizer file says true.
static bool flag(const json& token, const char* name) {
    const auto found = token.find(name);
    return found != token.end() && found->is_boolean() && found->get<bool>();
}

static AddedToken read_token(const json& token, const std::string& place) {
    if (token.is_string()) return {token.get<std::string>()};
    if (!token.is_object() || !token.contains("content") || !token["content"].is_string())
        throw Error("malformed added token", "an object with content", token.dump(), place);
    AddedToken read{token["content"].get<std::string>()};
    read.special = flag(token, "special");
    read.lstrip = flag(token, "lstrip");
    read.rstrip = flag(token, "rstrip");
    return read;
}

static int read_id(const json& id, const std::string& place) {
    constexpr int most = 1 << 24;
    if (!id.is_number_integer() || id.get<int64_t>() < 0 || id.get<int64_t>() >= most)
        throw Error("an added token has an impossible id", fmt::format("0 to {}", most - 1),
                    id.dump(), place);
    return id.get<int>();
}

void AddedTokens::add(AddedToken token, const std::string& place) {
    if (token.text.empty())
        throw Error("an added token is empty", "", fmt::format("id {}", token.id), place);
    const auto [at, fresh] = tokens_.try_emplace(token.id, token);
    if (!fresh && at->second.text != token.text)
        throw Error("two added tokens share an id", at->second.text, token.text, place);
}

void AddedTokens::read_roles(const json& object, const std::string& place) {
    for (const char* name : role_names) {
        const auto found = object.find(name);
        if (found == object.end()) continue;
        Role& role = roles_[name];
        role = {};
        if (!found->is_null()) role.token = read_token(*found, place);
    }
    const auto more = object.find("additional_special_tokens");
    if (more == object.end() || more->is_null()) return;
    if (!more->is_array())
        throw Error("malformed additional_special_tokens", "a list", more->dump(), place);
    for (const json& token : *more) {
        const AddedToken read = read_token(token, place);
        if (std::ranges::find(additional_, read.text, &AddedToken::text) == additional_.end())
            additional_.push_back(read);
    }
}

void AddedTokens::read_config(const json& config) {
    const std::string place = where_ + "/tokenizer_config.json";
    const auto found = config.find("added_tokens_decoder");
    const json none = json::object();
    const json& decoder = found == config.end() ? none : *found;
    if (!decoder.is_object())
        throw Error("malformed added_tokens_decoder", "an object", decoder.dump(), place);
    for (const auto& [key, value] : decoder.items()) {
        AddedToken token = read_token(value, place);
        token.id = read_id(json::parse(key, nullptr, false), place);
        add(token, place);
    }
    read_roles(config, place);
}

void AddedTokens::read_special_map(const json& map) {
    read_roles(map, where_ + "/special_tokens_map.json");
}

void AddedTokens::read_ids(const json& ids) {
    const std::string place = where_ + "/added_tokens.json";
    for (const auto& [text, id] : ids.items()) add({text, read_id(id, place)}, place);
}

void AddedTokens::read_list(const json& tokens) {
    const std::string place = where_ + "/tokenizer.json";
    if (!tokens.is_array()) throw Error("malformed added_tokens", "a list", tokens.dump(), place);
    for (const json& entry : tokens) {
        AddedToken token = read_token(entry, place);
        token.id = read_id(entry.value("id", json()), place);
        add(token, place);
    }
}

void AddedTokens::set_default(const std::string& role, const std::string& text) {
    roles_.try_emplace(role, Role{AddedToken{text}, true});
}

std::optional<std::string> AddedTokens::role(const std::string& name) const {
    const auto found = roles_.find(name);
    if (found == roles_.end() || !found->second.token) return std::nullopt;
    return found->second.token->text;
}

std::vector<AddedToken> AddedTokens::finish(const std::function<int(std::string_view)>& find,
                                            int base_size, bool by_flag) const {
    std::map<int, AddedToken> tokens = tokens_;
    std::set<std::string, std::less<>> present, special, additional;
    for (const auto& [id, token] : tokens)
        if (!present.insert(token.text).second)
            throw Error("an added token has two ids", "", token.text, where_);
    const auto call_special = [&](AddedToken token, bool must_exist) {
        special.insert(token.text);
        if (token.text.empty() || present.contains(token.text)) return;
        token.id = find(token.text);
        if (token.id < 0 && must_exist) return;
        const int last = tokens.empty() ? -1 : tokens.rbegin()->first;
        if (token.id < 0) token.id = std::max(base_size, last + 1);
        if (tokens.emplace(token.id, token).second) present.insert(token.text);
    };
    bool any_role = !additional_.empty();
    for (const char* name : role_names) {
        const auto found = roles_.find(name);
        if (found == roles_.end() || !found->second.token) continue;
        any_role |= !found->second.by_default;
        // A class's default counts only where the vocabulary has it.
        call_special(*found->second.token, found->second.by_default);
    }
    for (const AddedToken& token : additional_) {
        additional.insert(token.text);
        call_special(token, false);
    }
    std::vector<AddedToken> list;
    for (auto& [id, token] : tokens) {
        // A configuration that names no special token at all means its flags.
        const bool flagged = token.special && (by_flag || !any_role);
        token.special = flagged || special.contains(token.text);
        token.additional = additional.contains(token.text);
        list.push_back(token);
    }
    return list;
}

bool is_grounding_tag(std::string_view token) {
    static constexpr std::string_view tags[] = {"<ref>",  "</ref>", "<box>",
                                                "</box>", "<quad>", "</quad>"};
    return std::ranges::find(tags, token) != std::end(tags);
}

}  // namespace internvl
