#include "serve/answer_options.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <random>

namespace internvl {

using nlohmann::json;

namespace {

// No answer is longer, whatever is asked for; the context is checked later.
constexpr int64_t most_tokens = 1 << 30;

// Two names for one field: either, or both with the same value.
bool either(const FieldReader& fields, const char* name, const char* alias, int64_t low, int& out) {
    int64_t first = 0, second = 0;
    const auto read = [&](const char* which, int64_t& value) {
        if (!fields.integer(which, low, INT64_MAX, value)) return false;
        value = std::min(value, most_tokens);
        return true;
    };
    const bool has_first = read(name, first), has_second = read(alias, second);
    if (has_first && has_second && first != second)
        refuse("invalid_value", alias,
               fmt::format("{} and {} differ: {} and {}", name, alias, first, second));
    if (has_first || has_second) out = int(has_first ? first : second);
    return has_first || has_second;
}

void read_limits(const FieldReader& fields, AnswerOptions& a) {
    GenerateOptions& g = a.generate;
    a.max_tokens_given = either(fields, "max_completion_tokens", "max_tokens", 1, g.max_new_tokens);
    if (either(fields, "min_tokens", "min_new_tokens", 0, g.min_new_tokens) &&
        g.min_new_tokens > g.max_new_tokens)
        refuse("invalid_value", fields.has("min_tokens") ? "min_tokens" : "min_new_tokens",
               fmt::format("min_tokens must be 0 to {}, the limit of the answer, found {}",
                           g.max_new_tokens, g.min_new_tokens));
}

int read_id(const std::string& key, const RequestLimits& limits) {
    int64_t id = -1;
    const auto [end, error] = std::from_chars(key.data(), key.data() + key.size(), id);
    const bool good = error == std::errc() && end == key.data() + key.size() && id >= 0 &&
                      id < limits.vocabulary && key == std::to_string(id);
    if (!good)
        refuse("invalid_value", "logit_bias",
               fmt::format("keys of logit_bias must be ids from 0 to {}, found {}",
                           limits.vocabulary - 1, internvl::quoted(key)));
    return int(id);
}

void read_bias(const FieldReader& fields, const RequestLimits& limits, GenerateOptions& g) {
    const json* bias = fields.find("logit_bias");
    if (!bias) return;
    g.logit_bias.clear();
    for (const auto& [key, value] : bias->items()) {
        const int id = read_id(key, limits);
        if (!value.is_number())
            refuse("invalid_type", "logit_bias",
                   fmt::format("logit_bias.{} must be a number, found {}", id, shown(value)));
        const double amount = value.get<double>();
        if (!(amount >= -100 && amount <= 100))
            refuse("invalid_value", "logit_bias",
                   fmt::format("logit_bias.{} must be -100 to 100, found {}", id, shown(value)));
        g.logit_bias.emplace_back(id, float(amount));
    }
}

void read_sampling(const FieldReader& fields, const RequestLimits& limits, GenerateOptions& g) {
    float temperature = 0;
    if (fields.number("temperature", 0, 2, temperature)) {
        g.do_sample = temperature > 0;
        // Less makes no difference but numbers that are too large.
        if (g.do_sample) g.temperature = std::max(temperature, 1e-5f);
    }
    if (fields.number("top_p", 0, 1, g.top_p, true)) g.top_p = std::max(g.top_p, 1e-9f);
    if (fields.integer("top_k", -1, limits.vocabulary, g.top_k)) g.top_k = std::max(g.top_k, 0);
    fields.number("min_p", 0, 1, g.min_p);
    if (fields.number("repetition_penalty", 0, 10, g.repetition_penalty, true))
        g.repetition_penalty = std::max(g.repetition_penalty, 1e-5f);
    fields.number("presence_penalty", -2, 2, g.presence_penalty);
    fields.number("frequency_penalty", -2, 2, g.frequency_penalty);
    read_bias(fields, limits, g);
}

uint64_t random_seed() {
    thread_local std::random_device device;
    return (uint64_t(device()) << 32 | device()) >> 1;  // clients read it as a signed number
}

void check_stop(const json& text) {
    if (!text.is_string())
        refuse("invalid_type", "stop",
               "stop must be a string or a list of strings, found " + shown(text));
    const size_t size = text.get_ref<const std::string&>().size();
    if (size < 1 || size > 1024)
        refuse("invalid_value", "stop",
               fmt::format("each stop text must have 1 to 1024 bytes, found {}", size));
}

void read_stops(const FieldReader& fields, const RequestLimits& limits, GenerateOptions& g) {
    if (const json* stop = fields.find("stop")) {
        if (stop->is_array() && stop->size() > 16)
            refuse("invalid_value", "stop",
                   fmt::format("stop must be at most 16 strings, found {}", stop->size()));
        const json all = stop->is_array() ? *stop : json::array({*stop});
        g.stop.clear();
        for (const json& text : all) {
            check_stop(text);
            g.stop.push_back(text.get<std::string>());
        }
    }
    if (const json* ids = fields.find("stop_token_ids"))
        g.stop_token_ids = parse_ids(*ids, "stop_token_ids", limits, false);
    fields.flag("ignore_eos", g.ban_eos);
    fields.flag("include_stop_str_in_output", g.include_stop);
    fields.flag("skip_special_tokens", g.skip_special_tokens);
}

void read_logprobs(const FieldReader& fields, bool chat, int& top) {
    if (!chat) {
        fields.integer("logprobs", 0, 20, top);
        return;
    }
    bool wanted = false;
    int alternatives = 0;
    fields.flag("logprobs", wanted);
    fields.integer("top_logprobs", 0, 20, alternatives);
    if (alternatives > 0 && !wanted)
        refuse("invalid_value", "top_logprobs",
               fmt::format("top_logprobs needs logprobs: true, found top_logprobs {} without it",
                           alternatives));
    if (wanted) top = alternatives;
}

void read_stream(const FieldReader& fields, const RequestLimits& limits, AnswerOptions& a,
                 std::vector<std::string>& ignored) {
    fields.flag("stream", a.stream);
    const json* options = fields.find("stream_options");
    if (!options) return;
    if (!a.stream)
        refuse("invalid_value", "stream_options", "stream_options is only for stream: true");
    const FieldReader inside(*options, "stream_options.");
    inside.flag("include_usage", a.include_usage);
    bool no_effect = false;
    inside.flag("include_obfuscation", no_effect);
    static constexpr const char* known[] = {"include_usage", "include_obfuscation"};
    inside.unknown(known, limits.strict_fields, ignored);
}

}  // namespace

std::vector<int> parse_ids(const json& list, const std::string& place, const RequestLimits& limits,
                           bool bar_image_ids) {
    std::vector<int> ids;
    for (const json& id : list) {
        if (!id.is_number_integer())
            refuse("invalid_type", place,
                   fmt::format("{} must hold ids, whole numbers, found {}", place, shown(id)));
        const bool huge = id.is_number_unsigned() && id.get<uint64_t>() > uint64_t(INT64_MAX);
        const int64_t value = huge ? INT64_MAX : id.get<int64_t>();
        if (value < 0 || value >= limits.vocabulary)
            refuse("invalid_value", place,
                   fmt::format("{} must hold ids from 0 to {}, found {}", place,
                               limits.vocabulary - 1, shown(id)));
        if (bar_image_ids &&
            std::ranges::find(limits.image_ids, int(value)) != limits.image_ids.end())
            refuse("invalid_value", place,
                   fmt::format("{} may not hold the ids of pictures, found {}", place, value));
        ids.push_back(int(value));
    }
    return ids;
}

AnswerOptions parse_answer_options(const json& body, const RequestDefaults& defaults, bool chat,
                                   std::vector<std::string>& ignored) {
    const RequestLimits& limits = defaults.limits;
    const FieldReader fields(body, "");
    AnswerOptions a;
    a.generate = defaults.generate;
    fields.text("model", a.model);
    if (!chat) a.generate.max_new_tokens = 16;
    read_limits(fields, a);
    read_sampling(fields, limits, a.generate);
    int64_t seed = 0;
    if (fields.integer("seed", INT64_MIN, INT64_MAX, seed))
        a.generate.seed = uint64_t(seed);
    else if (defaults.random_seed)
        a.generate.seed = random_seed();
    fields.integer("n", 1, limits.max_n, a.n);
    read_stops(fields, limits, a.generate);
    read_logprobs(fields, chat, a.top_logprobs);
    read_stream(fields, limits, a, ignored);
    fields.text("cache_salt", a.cache_salt);
    int64_t deadline = 0;
    if (fields.integer("deadline_ms", 1, limits.max_deadline_ms, deadline))
        a.deadline_ms = deadline;
    fields.integer("priority", -10, 10, a.priority);
    fields.flag("return_info", a.return_info);
    fields.flag("return_token_ids", a.return_token_ids);
    return a;
}

}  // namespace internvl
