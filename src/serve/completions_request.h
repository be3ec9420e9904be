#pragma once
#include <variant>

#include "serve/chat_request.h"

namespace internvl {

// Text or ids, as the request gave it.
using CompletionsPrompt = std::variant<std::string, std::vector<int>>;

struct CompletionsRequest {
    AnswerOptions answer;
    std::vector<CompletionsPrompt> prompts;  // answer.n choices for each, prompt by prompt
};

// The body of a completion (api.md 1.3). Throws RequestError.
CompletionsRequest parse_completions_request(const nlohmann::json& body, const RequestDefaults&,
                                             std::vector<std::string>& ignored);
Prompt completions_prompt(const Tokenizer&, const CompletionsPrompt&, const RequestLimits&);

// The body of /tokenize: text, or a whole chat (api.md 1.5).
struct TokenizeRequest {
    std::string model;
    std::variant<std::string, ChatRequest> what;
    bool add_special_tokens = true;  // of text
    bool token_strings = false;
};
TokenizeRequest parse_tokenize_request(const nlohmann::json& body, const RequestDefaults&);
std::vector<int> parse_detokenize_request(const nlohmann::json& body, const RequestLimits&);

nlohmann::ordered_json tokenize_body(const Tokenizer&, const Prompt&, const RequestLimits&,
                                     bool token_strings);
nlohmann::ordered_json detokenize_body(const Tokenizer&, std::span<const int> ids);

}  // namespace internvl
