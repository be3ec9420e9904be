#pragma once
#include <string>
#include <string_view>
#include <vector>

#include "base/json.h"
#include "model/config.h"

namespace internvl {

// A token with a meaning of its own, and the flags that its folder gives it.
struct MemberToken {
    int id;
    std::string text;
    bool special = true, rstrip = false;
};

// What a released tokenizer consists of.
struct MemberTokenizer {
    enum class Files { qwen2, sentencepiece, json } files;
    int pieces = 0;                        // of the vocabulary itself
    int first_byte = 0;                    // where the 256 bytes begin
    int blank = 0;                         // the piece of a blank (SentencePiece)
    bool dummy_prefix = false;             // SentencePiece puts a blank before every text
    std::vector<MemberToken> tokens = {};  // in the vocabulary or behind it
    nlohmann::ordered_json config = {};    // tokenizer_config.json, but for the tokens
};

// One released model of the family as its folder describes it (spec 0.2, 3.1, 5.0, 7.1).
struct Member {
    std::string name;               // "internvl2-1b"
    nlohmann::ordered_json config;  // config.json: what differs from the classes' defaults
    MemberTokenizer tokenizer;

    ModelConfig parsed() const { return parse_config(config.dump(), name); }
};

// All seven, the smallest first.
const std::vector<Member>& members();
// By name, in any case, with or without `OpenGVLab/`; null when there is none.
const Member* find_member(std::string_view name);
std::string member_names();  // "internvl2-1b, internvl2-2b, ..." for messages

}  // namespace internvl
