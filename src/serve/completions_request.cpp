#include "serve/completions_request.h"

#include <fmt/format.h>

#include <algorithm>

#include "serve/answer_options.h"

namespace internvl {

using nlohmann::json;

namespace {

constexpr size_t most_prompts = 32;

CompletionsPrompt prompt_of(const json& value, const std::string& place,
                            const RequestLimits& limits) {
    if (value.is_string()) {
        if (value.get_ref<const std::string&>().empty())
            refuse("invalid_value", place, place + " must not be empty");
        return value.get<std::string>();
    }
    if (!value.is_array())
        refuse("invalid_type", place,
               fmt::format("{} must be a string or a list of ids, found {}", place, shown(value)));
    if (value.empty()) refuse("invalid_value", place, place + " must not be empty");
    return parse_ids(value, place, limits, true);
}

std::vector<CompletionsPrompt> prompts_of(const json& value, const RequestLimits& limits) {
    const bool several =
        value.is_array() && !value.empty() && (value[0].is_string() || value[0].is_array());
    if (!several) return {prompt_of(value, "prompt", limits)};
    if (value.size() > most_prompts)
        refuse("invalid_value", "prompt",
               fmt::format("prompt must hold at most {} prompts, found {}", most_prompts,
                           value.size()));
    std::vector<CompletionsPrompt> prompts;
    for (size_t i = 0; i < value.size(); ++i) {
        const std::string place = fmt::format("prompt[{}]", i);
        if (value[i].type() != value[0].type())
            refuse("invalid_type", place, "prompt must hold prompts of one kind");
        prompts.push_back(prompt_of(value[i], place, limits));
    }
    return prompts;
}

}  // namespace

CompletionsRequest parse_completions_request(const json& body, const RequestDefaults& defaults,
                                             std::vector<std::string>& ignored) {
    check_fields(body, Field::completions, defaults.limits, ignored);
    CompletionsRequest request;
    request.answer = parse_answer_options(body, defaults, false, ignored);
    const FieldReader fields(body, "");
    int64_t best_of = 0;
    if (fields.integer("best_of", 1, INT64_MAX, best_of) && best_of != request.answer.n)
        refuse(
            "unsupported_parameter", "best_of",
            fmt::format("best_of must equal n, which is {}, found {}", request.answer.n, best_of));
    request.prompts = prompts_of(body["prompt"], defaults.limits);
    return request;
}

Prompt completions_prompt(const Tokenizer& tokenizer, const CompletionsPrompt& prompt,
                          const RequestLimits& limits) {
    if (const auto* ids = std::get_if<std::vector<int>>(&prompt)) return {"", *ids};
    return plain_prompt(tokenizer, std::get<std::string>(prompt), true, limits.control_tokens);
}

TokenizeRequest parse_tokenize_request(const json& body, const RequestDefaults& defaults) {
    std::vector<std::string> ignored;
    RequestDefaults any = defaults;
    any.limits.strict_fields = any.limits.model_required = false;
    check_fields(body, Field::tokenize, any.limits, ignored);
    const FieldReader fields(body, "");
    TokenizeRequest request;
    fields.text("model", request.model);
    fields.flag("add_special_tokens", request.add_special_tokens);
    fields.flag("return_token_strs", request.token_strings);
    std::string text;
    const bool has_text = fields.text("prompt", text);
    if (has_text == fields.has("messages"))
        refuse(has_text ? "invalid_value" : "missing_field", "prompt",
               has_text ? "prompt and messages cannot be given together"
                        : "prompt or messages is missing");
    if (int64_t(text.size()) > defaults.limits.max_tokenize_bytes)
        refuse("payload_too_large", "prompt",
               fmt::format("prompt must have at most {} bytes, found {}",
                           defaults.limits.max_tokenize_bytes, text.size()));
    request.what = text;
    if (!has_text) request.what = parse_chat_request(body, any, ignored);
    return request;
}

std::vector<int> parse_detokenize_request(const json& body, const RequestLimits& limits) {
    std::vector<std::string> ignored;
    RequestLimits any = limits;
    any.strict_fields = any.model_required = false;
    check_fields(body, Field::detokenize, any, ignored);
    return parse_ids(body["tokens"], "tokens", limits, false);
}

nlohmann::ordered_json tokenize_body(const Tokenizer& tokenizer, const Prompt& prompt,
                                     const RequestLimits& limits, bool token_strings) {
    nlohmann::ordered_json strings;
    if (token_strings) {
        strings = nlohmann::ordered_json::array();
        for (const int id : prompt.ids) strings.push_back(tokenizer.decode({&id, 1}, false));
    }
    return {{"count", prompt.ids.size()},
            {"max_model_len", limits.max_model_len},
            {"tokens", prompt.ids},
            {"token_strs", strings}};
}

nlohmann::ordered_json detokenize_body(const Tokenizer& tokenizer, std::span<const int> ids) {
    return {{"prompt", tokenizer.decode(ids, false)}};
}

}  // namespace internvl
