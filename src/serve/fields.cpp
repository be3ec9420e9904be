#include "serve/fields.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace internvl {

using nlohmann::json;

namespace {

constexpr unsigned text = Field::text, integer = Field::integer, number = Field::number,
                   flag = Field::flag, list = Field::list, object = Field::object, any = 63;
constexpr unsigned chat = Field::chat, plain = Field::completions, both = chat | plain;
constexpr unsigned tokenize = Field::tokenize, estimate = Field::estimate;
constexpr auto honoured = Field::Action::honoured;
constexpr auto ignored = Field::Action::ignored;
constexpr auto refused = Field::Action::refused;
using Limits = RequestLimits;

// In the order in which they are checked.
const Field table[] = {
    {.name = "model",
     .endpoints = both,
     .kinds = text,
     .required = true,
     .note = "A served name or alias."},
    {.name = "model", .endpoints = tokenize | Field::detokenize | estimate, .kinds = text},
    {.name = "messages", .endpoints = chat, .kinds = list, .required = true, .low = 1, .high = 512},
    {.name = "messages", .endpoints = tokenize | estimate, .kinds = list, .low = 1, .high = 512},
    {.name = "prompt",
     .endpoints = plain,
     .kinds = text | list,
     .required = true,
     .note = "A text, a list of at most 32 texts, ids, or a list of at most 32 lists of ids."},
    {.name = "prompt", .endpoints = tokenize, .kinds = text},
    {.name = "max_completion_tokens",
     .endpoints = chat,
     .kinds = integer,
     .low = 1,
     .note = "As max_tokens."},
    {.name = "max_tokens",
     .endpoints = both,
     .kinds = integer,
     .low = 1,
     .note = "Tokens of the answer at most."},
    {.name = "min_tokens", .endpoints = both, .kinds = integer, .low = 0, .standard = "0"},
    {.name = "min_new_tokens",
     .endpoints = both,
     .kinds = integer,
     .low = 0,
     .note = "As min_tokens."},
    {.name = "temperature",
     .endpoints = both,
     .kinds = number,
     .low = 0,
     .high = 2,
     .note = "0: greedy."},
    {.name = "top_p", .endpoints = both, .kinds = number, .low = 0, .high = 1, .above_low = true},
    {.name = "top_k",
     .endpoints = both,
     .kinds = integer,
     .low = -1,
     .most = &Limits::vocabulary,
     .note = "-1 and 0: off."},
    {.name = "min_p", .endpoints = both, .kinds = number, .low = 0, .high = 1, .standard = "0"},
    {.name = "repetition_penalty",
     .endpoints = both,
     .kinds = number,
     .low = 0,
     .high = 10,
     .above_low = true,
     .standard = "1"},
    {.name = "presence_penalty",
     .endpoints = both,
     .kinds = number,
     .low = -2,
     .high = 2,
     .standard = "0"},
    {.name = "frequency_penalty",
     .endpoints = both,
     .kinds = number,
     .low = -2,
     .high = 2,
     .standard = "0"},
    {.name = "logit_bias",
     .endpoints = both,
     .kinds = object,
     .low = 0,
     .high = 1024,
     .standard = "{}",
     .inside = R"({"additionalProperties":{"type":"number","minimum":-100,"maximum":100}})",
     .note = "Keys are ids."},
    {.name = "seed", .endpoints = both, .kinds = integer, .note = "Random when absent."},
    {.name = "n",
     .endpoints = both,
     .kinds = integer,
     .low = 1,
     .most = &Limits::max_n,
     .standard = "1"},
    {.name = "stop",
     .endpoints = both,
     .kinds = text | list,
     .inside = R"({"items":{"type":"string","minLength":1,"maxLength":1024},"maxItems":16,)"
               R"("minLength":1,"maxLength":1024})"},
    {.name = "stop_token_ids",
     .endpoints = both,
     .kinds = list,
     .low = 0,
     .high = 64,
     .standard = "[]",
     .inside = R"({"items":{"type":"integer","minimum":0}})"},
    {.name = "ignore_eos", .endpoints = both, .kinds = flag, .standard = "false"},
    {.name = "include_stop_str_in_output", .endpoints = both, .kinds = flag, .standard = "false"},
    {.name = "skip_special_tokens",
     .endpoints = both,
     .kinds = flag,
     .standard = "true",
     .note = "false keeps the tags of grounding."},
    {.name = "logprobs", .endpoints = chat, .kinds = flag, .standard = "false"},
    {.name = "logprobs", .endpoints = plain, .kinds = integer, .low = 0, .high = 20},
    {.name = "top_logprobs",
     .endpoints = chat,
     .kinds = integer,
     .low = 0,
     .high = 20,
     .standard = "0"},
    {.name = "stream", .endpoints = both, .kinds = flag, .standard = "false"},
    {.name = "stream_options",
     .endpoints = both,
     .kinds = object,
     .inside = R"({"properties":{"include_usage":{"type":"boolean"},)"
               R"("include_obfuscation":{"type":"boolean"}}})"},
    {.name = "response_format",
     .endpoints = both,
     .kinds = object,
     .action = refused,
     .words = R"([{"type":"text"}])"},
    {.name = "tools", .endpoints = both, .kinds = list, .action = refused, .words = "[[]]"},
    {.name = "tool_choice",
     .endpoints = both,
     .kinds = any,
     .action = refused,
     .words = R"(["none","auto"])"},
    {.name = "functions", .endpoints = both, .kinds = list, .action = refused},
    {.name = "function_call",
     .endpoints = both,
     .kinds = any,
     .action = refused,
     .words = R"(["none","auto"])"},
    {.name = "modalities",
     .endpoints = both,
     .kinds = list,
     .action = refused,
     .words = R"([["text"]])"},
    {.name = "audio", .endpoints = both, .kinds = object, .action = refused},
    {.name = "web_search_options", .endpoints = both, .kinds = object, .action = refused},
    {.name = "moderation", .endpoints = both, .kinds = any, .action = refused},
    {.name = "user", .endpoints = both, .kinds = text, .action = ignored, .low = 0, .high = 512},
    {.name = "safety_identifier", .endpoints = both, .kinds = text, .action = ignored},
    {.name = "metadata", .endpoints = both, .kinds = object, .action = ignored},
    {.name = "store", .endpoints = both, .kinds = flag, .action = ignored},
    {.name = "service_tier", .endpoints = both, .kinds = text, .action = ignored},
    {.name = "prompt_cache_key", .endpoints = both, .kinds = text, .action = ignored},
    {.name = "prompt_cache_options", .endpoints = both, .kinds = object, .action = ignored},
    {.name = "prompt_cache_retention", .endpoints = both, .kinds = text, .action = ignored},
    {.name = "prediction", .endpoints = both, .kinds = object, .action = ignored},
    {.name = "parallel_tool_calls", .endpoints = both, .kinds = flag, .action = ignored},
    {.name = "reasoning_effort", .endpoints = both, .kinds = text, .action = ignored},
    {.name = "verbosity", .endpoints = both, .kinds = text, .action = ignored},
    {.name = "mm_processor_kwargs",
     .endpoints = chat | estimate,
     .kinds = object,
     .inside = R"({"properties":{"min_dynamic_patch":{"type":"integer","minimum":1},)"
               R"("max_dynamic_patch":{"type":"integer","minimum":1},)"
               R"("use_thumbnail":{"type":"boolean"},"dynamic_image_size":{"type":"boolean"}}})"},
    {.name = "media_io_kwargs",
     .endpoints = chat | estimate,
     .kinds = object,
     .inside = R"({"properties":{"video":{"type":"object","properties":{)"
               R"("num_frames":{"type":"integer","minimum":1},)"
               R"("fps":{"type":"number","exclusiveMinimum":0,"maximum":60}}}}})"},
    {.name = "max_total_tiles",
     .endpoints = chat | estimate,
     .kinds = integer,
     .low = 1,
     .high = 1024},
    {.name = "image_fit",
     .endpoints = chat | estimate,
     .kinds = text,
     .words = R"(["error","reduce"])",
     .standard = R"("error")"},
    {.name = "image_placement",
     .endpoints = chat | tokenize | estimate,
     .kinds = text,
     .words = R"(["auto","parts","markers","inline","combined"])",
     .standard = R"("auto")"},
    {.name = "continue_final_message", .endpoints = chat | tokenize | estimate, .kinds = flag},
    {.name = "add_generation_prompt", .endpoints = chat | tokenize | estimate, .kinds = flag},
    {.name = "cache_salt", .endpoints = both, .kinds = text, .low = 0, .high = 128},
    {.name = "deadline_ms",
     .endpoints = both,
     .kinds = integer,
     .low = 1,
     .most = &Limits::max_deadline_ms},
    {.name = "priority",
     .endpoints = both,
     .kinds = integer,
     .low = -10,
     .high = 10,
     .standard = "0",
     .note = "Lower first; for keys that may."},
    {.name = "return_info", .endpoints = both, .kinds = flag, .standard = "false"},
    {.name = "return_token_ids", .endpoints = both, .kinds = flag, .standard = "false"},
    {.name = "prompt_logprobs", .endpoints = both, .kinds = any, .action = refused},
    {.name = "best_of", .endpoints = chat, .kinds = any, .action = refused},
    {.name = "best_of", .endpoints = plain, .kinds = integer, .low = 1, .note = "Equal to n."},
    {.name = "structured_outputs", .endpoints = both, .kinds = any, .action = refused},
    {.name = "chat_template", .endpoints = both, .kinds = any, .action = refused},
    {.name = "chat_template_kwargs",
     .endpoints = both,
     .kinds = object,
     .action = refused,
     .words = "[{}]"},
    {.name = "echo", .endpoints = plain, .kinds = flag, .action = refused, .words = "[false]"},
    {.name = "suffix", .endpoints = plain, .kinds = text, .action = refused, .words = R"([""])"},
    {.name = "add_special_tokens", .endpoints = tokenize, .kinds = flag, .standard = "true"},
    {.name = "return_token_strs", .endpoints = tokenize, .kinds = flag, .standard = "false"},
    {.name = "tokens",
     .endpoints = Field::detokenize,
     .kinds = list,
     .required = true,
     .inside = R"({"items":{"type":"integer","minimum":0}})"},
    {.name = "images",
     .endpoints = estimate,
     .kinds = list,
     .low = 0,
     .most = &Limits::max_images,
     .inside = R"({"items":{"type":"object"}})"},
    {.name = "videos",
     .endpoints = estimate,
     .kinds = list,
     .low = 0,
     .most = &Limits::max_videos,
     .inside = R"({"items":{"type":"object"}})"},
    {.name = "return_tiles", .endpoints = estimate, .kinds = flag, .standard = "false"},
};

bool has_kind(const json& value, unsigned kinds) {
    return ((kinds & text) && value.is_string()) ||
           ((kinds & integer) && value.is_number_integer()) ||
           ((kinds & number) && value.is_number()) || ((kinds & flag) && value.is_boolean()) ||
           ((kinds & list) && value.is_array()) || ((kinds & object) && value.is_object());
}

std::string kind_names(unsigned kinds) {
    std::string names;
    const std::pair<unsigned, const char*> all[] = {
        {text, "a string"},   {integer, "a whole number"},
        {number, "a number"}, {flag, "true or false"},
        {list, "a list"},     {object, "an object"}};
    for (const auto& [kind, name] : all)
        if (kinds & kind) names += (names.empty() ? "" : " or ") + std::string(name);
    return names;
}

// What the bounds of a field count, and its unit.
std::pair<double, const char*> measure(const json& value) {
    if (value.is_string()) return {double(value.get_ref<const std::string&>().size()), " bytes"};
    if (value.is_array() || value.is_object()) return {double(value.size()), " entries"};
    return {value.get<double>(), ""};
}

std::string range_text(double low, double high, bool above_low, const char* unit) {
    const bool no_low = low <= -1e300, no_high = high >= 1e300;
    if (no_low) return fmt::format("at most {}{}", high, unit);
    if (no_high) return fmt::format("{} {}{}", above_low ? "above" : "at least", low, unit);
    return above_low ? fmt::format("above {} and at most {}{}", low, high, unit)
                     : fmt::format("{} to {}{}", low, high, unit);
}

void check_value(const Field& f, const json& value, const RequestLimits& limits) {
    const std::string name = f.name;
    if (f.action == Field::Action::refused) {
        const json taken = json::parse(*f.words ? f.words : "[]");
        if (std::ranges::find(taken, value) != taken.end()) return;
        refuse("unsupported_parameter", name,
               taken.empty()
                   ? name + " is not supported; leave it out"
                   : fmt::format("{} is supported only as {}, found {}", name,
                                 taken.size() == 1 ? taken[0].dump() : taken.dump(), shown(value)));
    }
    if (!has_kind(value, f.kinds))
        refuse("invalid_type", name,
               fmt::format("{} must be {}, found {}", name, kind_names(f.kinds), shown(value)));
    if (*f.words) {
        const json taken = json::parse(f.words);
        if (std::ranges::find(taken, value) == taken.end())
            refuse("invalid_value", name,
                   fmt::format("{} must be one of {}, found {}", name, taken.dump(), shown(value)));
        return;
    }
    if (value.is_boolean()) return;
    const auto [size, unit] = measure(value);
    const double high = f.highest(limits);
    if (size > high || size < f.low || (f.above_low && size <= f.low))
        refuse(
            "invalid_value", name,
            fmt::format("{} must be {}, found {}", name, range_text(f.low, high, f.above_low, unit),
                        *unit ? fmt::format("{}{}", size, unit) : shown(value)));
}

// Names the field in a header: harmless letters only.
void add_ignored(const std::string& name, const std::string& at, bool strict,
                 std::vector<std::string>& names) {
    if (strict)
        refuse("unsupported_parameter", at + name.substr(0, 64),
               fmt::format("{}{} is not a known field", at, internvl::quoted(name)));
    if (std::ranges::find(names, name) == names.end() && names.size() < 1000) names.push_back(name);
}

}  // namespace

double Field::highest(const RequestLimits& limits) const {
    return most ? double(limits.*most) : high;
}

std::span<const Field> request_fields() {
    return table;
}

void check_fields(const json& body, Field::Endpoint endpoint, const RequestLimits& limits,
                  std::vector<std::string>& ignored_names) {
    if (!body.is_object())
        refuse("invalid_json", "", "the body must be a JSON object, found " + shown(body));
    for (const Field& f : table) {
        if (!(f.endpoints & endpoint)) continue;
        const auto found = body.find(f.name);
        const bool there = found != body.end() && !found->is_null();
        if (there) check_value(f, *found, limits);
        const bool needed =
            f.required && (limits.model_required || std::string_view(f.name) != "model");
        if (!there && needed) refuse("missing_field", f.name, std::string(f.name) + " is missing");
    }
    for (const auto& [name, value] : body.items()) {
        const auto known = [&, &name = name](const Field& f) {
            return (f.endpoints & endpoint) && name == f.name;
        };
        if (value.is_null() || std::ranges::any_of(table, known)) continue;
        if (name.starts_with("guided_"))
            refuse("unsupported_parameter", name.substr(0, 64),
                   internvl::quoted(name) + " is not supported");
        add_ignored(name, "", limits.strict_fields, ignored_names);
    }
}

const json* FieldReader::find(const char* name) const {
    if (!object_.is_object()) return nullptr;
    const auto found = object_.find(name);
    return found == object_.end() || found->is_null() ? nullptr : &*found;
}

void FieldReader::wrong_type(const char* name, const char* expected) const {
    refuse("invalid_type", place(name),
           fmt::format("{} must be {}, found {}", place(name), expected, shown(*find(name))));
}

bool FieldReader::integer(const char* name, int64_t low, int64_t high, int64_t& out) const {
    const json* value = find(name);
    if (!value) return false;
    if (!value->is_number_integer()) wrong_type(name, "a whole number");
    const bool huge = value->is_number_unsigned() && value->get<uint64_t>() > uint64_t(INT64_MAX);
    const int64_t found = huge ? INT64_MAX : value->get<int64_t>();
    if (huge || found < low || found > high)
        refuse("invalid_value", place(name),
               fmt::format("{} must be {} to {}, found {}", place(name), low, high, shown(*value)));
    out = found;
    return true;
}

bool FieldReader::integer(const char* name, int64_t low, int64_t high, int& out) const {
    int64_t wide = 0;
    if (!integer(name, low, std::min<int64_t>(high, INT32_MAX), wide)) return false;
    out = int(wide);
    return true;
}

bool FieldReader::number(const char* name, double low, double high, double& out,
                         bool above_low) const {
    const json* value = find(name);
    if (!value) return false;
    if (!value->is_number()) wrong_type(name, "a number");
    const double found = value->get<double>();
    if (!(found >= low && found <= high) || (above_low && found <= low))
        refuse("invalid_value", place(name),
               fmt::format("{} must be {}, found {}", place(name),
                           range_text(low, high, above_low, ""), shown(*value)));
    out = found;
    return true;
}

bool FieldReader::number(const char* name, double low, double high, float& out,
                         bool above_low) const {
    double wide = 0;
    if (!number(name, low, high, wide, above_low)) return false;
    out = float(wide);
    return true;
}

bool FieldReader::flag(const char* name, bool& out) const {
    const json* value = find(name);
    if (!value) return false;
    if (!value->is_boolean()) wrong_type(name, "true or false");
    out = value->get<bool>();
    return true;
}

bool FieldReader::text(const char* name, std::string& out) const {
    const json* value = find(name);
    if (!value) return false;
    if (!value->is_string()) wrong_type(name, "a string");
    out = value->get<std::string>();
    return true;
}

void FieldReader::unknown(std::span<const char* const> known, bool strict,
                          std::vector<std::string>& names) const {
    for (const auto& [name, value] : object_.items())
        if (!value.is_null() && std::ranges::find(known, std::string_view(name)) == known.end())
            add_ignored(name, at_, strict, names);
}

}  // namespace internvl
