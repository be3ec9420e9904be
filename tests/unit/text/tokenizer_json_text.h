#pragma once
// Writes a tokenizer.json from its parts.
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

namespace internvl {

struct TokenizerJsonText {
    std::string vocabulary;  // a JSON object
    std::vector<std::pair<std::string, std::string>> merges;
    std::string normalizer = "null", digits = "\\p{N}", decoder = R"({"type": "ByteLevel"})";
    std::vector<std::pair<int, std::string>> added;  // all special
    std::string start_token;
    int start_id = 0;
    bool ignore_merges = false, merges_as_lists = false;

    // Lines "a b", of which the first ones are left out.
    void read_merges(const std::string& text, int skipped) {
        std::stringstream in(text);
        for (std::string line; std::getline(in, line);) {
            const size_t space = line.find(' ');
            if (skipped-- > 0 || space == line.npos) continue;
            merges.emplace_back(line.substr(0, space), line.substr(space + 1));
        }
    }

    std::string text() const {
        using nlohmann::json;
        json list = json::array(), tokens = json::array(), post = nullptr;
        for (const auto& [left, right] : merges) {
            if (merges_as_lists)
                list.push_back({left, right});
            else
                list.push_back(left + " " + right);
        }
        for (const auto& [id, content] : added)
            tokens.push_back({{"id", id}, {"content", content}, {"special", true}});
        if (!start_token.empty())
            post = {{"type", "TemplateProcessing"},
                    {"single",
                     {{{"SpecialToken", {{"id", start_token}, {"type_id", 0}}}},
                      {{"Sequence", {{"id", "A"}, {"type_id", 0}}}}}},
                    {"special_tokens", {{start_token, {{"ids", {start_id}}}}}}};
        const std::string pattern = R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|)" +
                                    digits +
                                    R"(| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
        const json split = {{"type", "Split"},
                            {"pattern", {{"Regex", pattern}}},
                            {"behavior", "Isolated"},
                            {"invert", false}};
        const json bytes = {
            {"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", false}};
        const json pre = {{"type", "Sequence"}, {"pretokenizers", {split, bytes}}};
        return R"({"added_tokens": )" + tokens.dump() + R"(, "normalizer": )" + normalizer +
               R"(, "pre_tokenizer": )" + pre.dump() + R"(, "post_processor": )" + post.dump() +
               R"(, "decoder": )" + decoder +
               R"(, "model": {"type": "BPE", "byte_fallback": false, "ignore_merges": )" +
               (ignore_merges ? "true" : "false") + R"(, "vocab": )" + vocabulary +
               R"(, "merges": )" + list.dump() + "}}";
    }
};

}  // namespace internvl
