#pragma once
#include <functional>
#include <map>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"

namespace internvl {

// A token that was added to the vocabulary, or that the base vocabulary has: matched as it stands
// before anything else is cut (spec 7.1, 7.2).
struct AddedToken {
    std::string text;
    int id = 0;
    bool special = false;                 // left out when special tokens are skipped
    bool lstrip = false, rstrip = false;  // takes the white space before or behind it
    bool additional = false;              // listed in `additional_special_tokens`
    std::string decoded = {};             // what its id becomes
};

// Gathers the tokens that a folder's files add, and those that they call special. A token of
// `added_tokens_decoder` may say `special` without being one (Phi-3's <|end|>): what counts for
// the reference's slow classes is whether it has a role (bos_token and so on) or is in
// `additional_special_tokens`.
class AddedTokens {
  public:
    explicit AddedTokens(std::string where) : where_(std::move(where)) {}

    void read_config(const nlohmann::json& config);    // tokenizer_config.json
    void read_special_map(const nlohmann::json& map);  // special_tokens_map.json
    void read_ids(const nlohmann::json& ids);          // added_tokens.json
    void read_list(const nlohmann::json& tokens);      // `added_tokens` of tokenizer.json
    // The role that a class gives to a token when the files say nothing.
    void set_default(const std::string& role, const std::string& text);

    std::optional<std::string> role(const std::string& name) const;  // its token's text

    // By id. Special tokens without an id are looked up in the base vocabulary with `find` (-1:
    // not there), or else come after it. `by_flag`: tokens marked `special` are, even without a
    // role.
    std::vector<AddedToken> finish(const std::function<int(std::string_view)>& find, int base_size,
                                   bool by_flag) const;

  private:
    void read_roles(const nlohmann::json& object, const std::string& place);
    void add(AddedToken token, const std::string& place);

    std::string where_;
    std::map<int, AddedToken> tokens_;
    struct Role {
        std::optional<AddedToken> token;
        bool by_default = false;
    };
    std::map<std::string, Role> roles_;
    std::vector<AddedToken> additional_;
};

// <ref>, <box>, <quad> and their ends: what a question about places in a picture is written with
// (spec 10.15). A user may write them, unlike control strings.
bool is_grounding_tag(std::string_view token);

}  // namespace internvl
