#include "serve/fields.h"

#include <algorithm>

#include "bodies.h"

namespace internvl {

namespace {

struct Case {
    const char* field;
    std::vector<json> good;
    std::vector<std::pair<json, const char*>> bad;  // value, code
    json more = json::object();                     // further fields
};

const json long_text = std::string(513, 'a');

// P9: each field's lowest, highest, just outside, wrong type; api.md 1.2.
const std::vector<Case> cases = {
    {"max_tokens",
     {1, 1 << 20},
     {{0, "invalid_value"}, {"1", "invalid_type"}, {1.0, "invalid_type"}, {true, "invalid_type"}}},
    {"max_completion_tokens",
     {1, 4000000000},
     {{0, "invalid_value"}, {-1, "invalid_value"}, {1.5, "invalid_type"}}},
    {"min_tokens",
     {0, 1024},
     {{-1, "invalid_value"}, {1025, "invalid_value"}, {"0", "invalid_type"}}},
    {"min_new_tokens", {0, 1024}, {{-1, "invalid_value"}, {1025, "invalid_value"}}},
    {"temperature",
     {0, 2, 0.5},
     {{-0.01, "invalid_value"},
      {2.01, "invalid_value"},
      {"hot", "invalid_type"},
      {true, "invalid_type"}}},
    {"top_p", {1e-6, 1}, {{0, "invalid_value"}, {1.01, "invalid_value"}, {"1", "invalid_type"}}},
    {"top_k",
     {-1, 0, 1, 1000},
     {{-2, "invalid_value"},
      {1001, "invalid_value"},
      {1.0, "invalid_type"},
      {json::array({1}), "invalid_type"}}},
    {"min_p", {0, 1}, {{-0.1, "invalid_value"}, {1.1, "invalid_value"}, {"0", "invalid_type"}}},
    {"repetition_penalty",
     {0.001, 10},
     {{0, "invalid_value"}, {10.1, "invalid_value"}, {false, "invalid_type"}}},
    {"presence_penalty",
     {-2, 2},
     {{-2.1, "invalid_value"}, {2.1, "invalid_value"}, {"0", "invalid_type"}}},
    {"frequency_penalty",
     {-2, 2},
     {{-2.1, "invalid_value"}, {2.1, "invalid_value"}, {"0", "invalid_type"}}},
    {"logit_bias",
     {json::object(), {{"0", -100}, {"999", 100}, {"7", 0.5}}},
     {{{{"1000", 1}}, "invalid_value"},
      {{{"-1", 1}}, "invalid_value"},
      {{{"1.5", 1}}, "invalid_value"},
      {{{"x", 1}}, "invalid_value"},
      {{{"05", 1}}, "invalid_value"},
      {{{"", 1}}, "invalid_value"},
      {{{"1", 101}}, "invalid_value"},
      {{{"1", -101}}, "invalid_value"},
      {{{"1", "2"}}, "invalid_type"},
      {json::array(), "invalid_type"}}},
    {"seed",
     {INT64_MIN, INT64_MAX, 0},
     {{uint64_t(INT64_MAX) + 1, "invalid_value"}, {1.0, "invalid_type"}, {"1", "invalid_type"}}},
    {"n",
     {1, 8},
     {{0, "invalid_value"},
      {9, "invalid_value"},
      {1000000000, "invalid_value"},
      {1.0, "invalid_type"}}},
    {"stop",
     {"x", json::array(), {"x", "y"}, std::string(1024, 'a'), json(16, "s")},
     {{"", "invalid_value"},
      {{""}, "invalid_value"},
      {std::string(1025, 'a'), "invalid_value"},
      {json(17, "s"), "invalid_value"},
      {json(100000, "s"), "invalid_value"},
      {1, "invalid_type"},
      {json::array({1}), "invalid_type"}}},
    {"stop_token_ids",
     {json::array(), {0, 999}, json(64, 1)},
     {{{1000}, "invalid_value"},
      {json::array({-1}), "invalid_value"},
      {json(65, 1), "invalid_value"},
      {json::array({"1"}), "invalid_type"},
      {1, "invalid_type"}}},
    {"ignore_eos", {true, false}, {{1, "invalid_type"}, {"true", "invalid_type"}}},
    {"include_stop_str_in_output", {true, false}, {{0, "invalid_type"}}},
    {"skip_special_tokens", {true, false}, {{0, "invalid_type"}}},
    {"logprobs", {true, false}, {{1, "invalid_type"}, {"true", "invalid_type"}}},
    {"top_logprobs",
     {0, 20},
     {{-1, "invalid_value"},
      {21, "invalid_value"},
      {1000000000, "invalid_value"},
      {true, "invalid_type"}},
     {{"logprobs", true}}},
    {"stream", {true, false}, {{1, "invalid_type"}}},
    {"stream_options",
     {json::object(), {{"include_usage", true}, {"include_obfuscation", false}}},
     {{true, "invalid_type"}},
     {{"stream", true}}},
    {"response_format",
     {{{"type", "text"}}},
     {{{{"type", "json_object"}}, "unsupported_parameter"},
      {{{"type", "json_schema"}}, "unsupported_parameter"},
      {"text", "unsupported_parameter"}}},
    {"tools", {json::array()}, {{json::array({1}), "unsupported_parameter"}}},
    {"tool_choice",
     {"none", "auto"},
     {{"required", "unsupported_parameter"}, {json::object(), "unsupported_parameter"}}},
    {"functions", {}, {{json::array({1}), "unsupported_parameter"}}},
    {"function_call", {"none", "auto"}, {{json::object(), "unsupported_parameter"}}},
    {"modalities",
     {json::array({"text"})},
     {{json::array({"text", "audio"}), "unsupported_parameter"}}},
    {"audio", {}, {{json::object(), "unsupported_parameter"}}},
    {"web_search_options", {}, {{json::object(), "unsupported_parameter"}}},
    {"user", {"", std::string(512, 'a')}, {{long_text, "invalid_value"}, {1, "invalid_type"}}},
    {"metadata", {json::object()}, {{"a", "invalid_type"}}},
    {"store", {true}, {{"a", "invalid_type"}}},
    {"parallel_tool_calls", {true}, {{1, "invalid_type"}}},
    {"reasoning_effort", {"low"}, {{1, "invalid_type"}}},
    {"prediction", {json::object()}, {{"a", "invalid_type"}}},
    {"mm_processor_kwargs",
     {json::object(),
      {{"max_dynamic_patch", 40},
       {"min_dynamic_patch", 1},
       {"use_thumbnail", false},
       {"dynamic_image_size", true}}},
     {{1, "invalid_type"}}},
    {"media_io_kwargs", {json::object(), {{"video", {{"num_frames", 16}}}}}, {{1, "invalid_type"}}},
    {"max_total_tiles",
     {1, 1024},
     {{0, "invalid_value"}, {1025, "invalid_value"}, {"3", "invalid_type"}}},
    {"image_fit", {"error", "reduce"}, {{"crop", "invalid_value"}, {1, "invalid_type"}}},
    {"image_placement",
     {"auto", "parts", "inline", "combined", "markers"},
     {{"above", "invalid_value"}, {1, "invalid_type"}}},
    {"cache_salt",
     {"", std::string(128, 'a')},
     {{std::string(129, 'a'), "invalid_value"}, {1, "invalid_type"}}},
    {"deadline_ms",
     {1, 540000},
     {{0, "invalid_value"}, {540001, "invalid_value"}, {1.0, "invalid_type"}}},
    {"priority", {-10, 10}, {{-11, "invalid_value"}, {11, "invalid_value"}}},
    {"return_info", {true, false}, {{1, "invalid_type"}}},
    {"return_token_ids", {true, false}, {{1, "invalid_type"}}},
    {"add_generation_prompt", {true}, {{false, "invalid_value"}, {1, "invalid_type"}}},
    {"continue_final_message", {false}, {{true, "invalid_value"}, {1, "invalid_type"}}},
    {"prompt_logprobs", {}, {{0, "unsupported_parameter"}}},
    {"best_of", {}, {{1, "unsupported_parameter"}}},
    {"guided_json", {}, {{json::object(), "unsupported_parameter"}}},
    {"guided_anything", {}, {{"x", "unsupported_parameter"}}},
    {"structured_outputs", {}, {{json::object(), "unsupported_parameter"}}},
    {"chat_template", {}, {{"x", "unsupported_parameter"}}},
    {"chat_template_kwargs", {json::object()}, {{{{"a", 1}}, "unsupported_parameter"}}},
    {"model", {"x"}, {{1, "invalid_type"}}},
    {"messages",
     {},
     {{json::array(), "invalid_value"},
      {"Hello", "invalid_type"},
      {json(513, {{"role", "user"}, {"content", "a"}}), "invalid_value"}}},
};

TEST(Fields, TakeTheirRangeAndRefuseTheRest) {
    for (const Case& c : cases) {
        json body = chat_body();
        body.update(c.more);
        for (const json& value : c.good) {
            body[c.field] = value;
            EXPECT_EQ(refusal(body), "") << c.field << ' ' << value;
        }
        for (const auto& [value, code] : c.bad) {
            body[c.field] = value;
            EXPECT_EQ(refusal(body), std::string(code) + " " + c.field) << c.field << ' ' << value;
        }
        body[c.field] = nullptr;
        const std::string name = c.field;
        EXPECT_EQ(refusal(body),
                  name == "model" || name == "messages" ? "missing_field " + name : "")
            << c.field << " null";
    }
}

TEST(Fields, OfTheContractAreAllInTheTable) {
    for (const Case& c : cases) {
        if (std::string(c.field).starts_with("guided_")) continue;
        const auto fields = request_fields();
        EXPECT_TRUE(std::ranges::any_of(fields, [&](const Field& f) {
            return std::string_view(f.name) == c.field && (f.endpoints & Field::chat);
        })) << c.field;
    }
}

}  // namespace

TEST(Fields, SetWhatTheySay) {
    json body = chat_body();
    body.update({{"max_tokens", 7},
                 {"min_tokens", 3},
                 {"temperature", 0},
                 {"top_k", -1},
                 {"top_p", 0.9},
                 {"presence_penalty", 0.5},
                 {"frequency_penalty", -0.5},
                 {"logit_bias", {{"12", -100}}},
                 {"seed", -5},
                 {"n", 2},
                 {"stop", "END"},
                 {"stop_token_ids", {3}},
                 {"ignore_eos", true},
                 {"include_stop_str_in_output", true},
                 {"skip_special_tokens", false},
                 {"logprobs", true},
                 {"top_logprobs", 4},
                 {"stream", true},
                 {"stream_options", {{"include_usage", true}}},
                 {"deadline_ms", 900},
                 {"priority", -3},
                 {"cache_salt", "s"},
                 {"image_fit", "reduce"},
                 {"max_total_tiles", 9}});
    const ChatRequest r = parse(body);
    const GenerateOptions& g = r.answer.generate;
    EXPECT_EQ(g.max_new_tokens, 7);
    EXPECT_EQ(g.min_new_tokens, 3);
    EXPECT_FALSE(g.do_sample);
    EXPECT_EQ(g.top_k, 0);
    EXPECT_FLOAT_EQ(g.top_p, 0.9f);
    EXPECT_EQ(g.presence_penalty, 0.5f);
    EXPECT_EQ(g.frequency_penalty, -0.5f);
    EXPECT_EQ(g.logit_bias, (std::vector<std::pair<int, float>>{{12, -100.0f}}));
    EXPECT_EQ(int64_t(g.seed), -5);
    EXPECT_EQ(g.stop, std::vector<std::string>{"END"});
    EXPECT_EQ(g.stop_token_ids, std::vector<int>{3});
    EXPECT_TRUE(g.ban_eos && g.include_stop && !g.skip_special_tokens && !g.penalise_start);
    EXPECT_EQ(r.answer.n, 2);
    EXPECT_EQ(r.answer.top_logprobs, 4);
    EXPECT_TRUE(r.answer.max_tokens_given && r.answer.stream && r.answer.include_usage);
    EXPECT_EQ(r.answer.deadline_ms, 900);
    EXPECT_EQ(r.answer.priority, -3);
    EXPECT_EQ(r.answer.cache_salt, "s");
    EXPECT_TRUE(r.reduce_images);
    EXPECT_EQ(r.max_total_tiles, 9);
}

TEST(Fields, DefaultsAreThoseOfTheContract) {
    const AnswerOptions a = parse(chat_body()).answer;
    EXPECT_TRUE(a.generate.do_sample);
    EXPECT_FLOAT_EQ(a.generate.temperature, 0.7f);
    EXPECT_EQ(a.generate.top_k, 40);
    EXPECT_EQ(a.generate.top_p, 1);
    EXPECT_EQ(a.generate.max_new_tokens, 1024);
    EXPECT_EQ(a.n, 1);
    EXPECT_EQ(a.top_logprobs, -1);
    EXPECT_FALSE(a.stream || a.include_usage || a.max_tokens_given);
    EXPECT_NE(a.generate.seed, parse(chat_body()).answer.generate.seed);  // once in 2^63 equal
}

TEST(Fields, ThatContradictEachOtherAreRefused) {
    json body = chat_body();
    body["max_tokens"] = body["max_completion_tokens"] = 5;
    EXPECT_EQ(refusal(body), "");
    body["max_tokens"] = 6;
    EXPECT_EQ(refusal(body), "invalid_value max_tokens");
    body = chat_body();
    body["top_logprobs"] = 1;
    EXPECT_EQ(refusal(body), "invalid_value top_logprobs");
    body = chat_body();
    body["stream_options"] = {{"include_usage", true}};
    EXPECT_EQ(refusal(body), "invalid_value stream_options");
    body["stream"] = true;
    body["stream_options"] = {{"include_usage", 1}};
    EXPECT_EQ(refusal(body), "invalid_type stream_options.include_usage");
}

TEST(Fields, UnknownOnesAreNamed) {
    json body = chat_body();
    body.update({{"foo", 1}, {"b\r\na<r>", 2}, {"absent", nullptr}, {"user", "u"}});
    std::vector<std::string> ignored;
    parse_chat_request(body, test_defaults(), ignored);
    EXPECT_EQ(ignored_header(ignored), "bar, foo");
    RequestDefaults strict = test_defaults();
    strict.limits.strict_fields = true;
    EXPECT_EQ(refusal({{"model", "m"}, {"messages", body["messages"]}, {"foo", 1}}, strict),
              "unsupported_parameter foo");
    std::vector<std::string> many(40, std::string(100, 'x'));
    for (size_t i = 0; i < many.size(); ++i) many[i] = std::to_string(i) + many[i];
    const std::string header = ignored_header(many);
    EXPECT_EQ(std::ranges::count(header, ','), 9);
    EXPECT_LE(header.size(), 10 * 64 + 18u);
}

TEST(Fields, OfPlainCompletions) {
    const json body = {{"model", "m"}, {"prompt", "Once"}};
    EXPECT_EQ(completions_refusal(body), "");
    const std::tuple<const char*, json, const char*> table[] = {
        {"prompt", nullptr, "missing_field prompt"},
        {"prompt", "", "invalid_value prompt"},
        {"prompt", json::array(), "invalid_value prompt"},
        {"prompt", {1, 2, 3}, ""},
        {"prompt", {1, 1000}, "invalid_value prompt"},
        {"prompt", {1, 6}, "invalid_value prompt"},
        {"prompt", {"a", "b"}, ""},
        {"prompt", {"a", ""}, "invalid_value prompt[1]"},
        {"prompt", {"a", json::array({1})}, "invalid_type prompt[1]"},
        {"prompt", json(33, "a"), "invalid_value prompt"},
        {"prompt", json(32, "a"), ""},
        {"prompt", 5, "invalid_type prompt"},
        {"max_tokens", 0, "invalid_value max_tokens"},
        {"logprobs", 20, ""},
        {"logprobs", 21, "invalid_value logprobs"},
        {"logprobs", true, "invalid_type logprobs"},
        {"best_of", 1, ""},
        {"best_of", 2, "unsupported_parameter best_of"},
        {"echo", false, ""},
        {"echo", true, "unsupported_parameter echo"},
        {"suffix", "", ""},
        {"suffix", "x", "unsupported_parameter suffix"},
    };
    for (const auto& [field, value, expected] : table) {
        json changed = body;
        changed[field] = value;
        EXPECT_EQ(completions_refusal(changed), expected) << field << ' ' << value;
    }
    std::vector<std::string> ignored;
    const json two = {{"model", "m"}, {"prompt", {{1, 2}, {3}}}, {"n", 2}, {"logprobs", 0}};
    const CompletionsRequest r = parse_completions_request(two, test_defaults(), ignored);
    EXPECT_EQ(r.prompts.size(), 2u);
    EXPECT_EQ(std::get<std::vector<int>>(r.prompts[1]), std::vector<int>{3});
    EXPECT_EQ(r.answer.generate.max_new_tokens, 16);
    EXPECT_EQ(r.answer.top_logprobs, 0);
}

}  // namespace internvl
