#include "serve/responses.h"

#include "bodies.h"

namespace internvl {

namespace {

const AnswerHead head{true, "chatcmpl-1", 1790000000, "InternVL2-1B", "fp_1"};

Delta delta(const std::string& text, std::vector<int> ids = {}) {
    return {text, std::move(ids), {}};
}

// The JSON of each event; "[DONE]" as null.
std::vector<json> events_of(const std::string& stream) {
    std::vector<json> events;
    for (size_t at = 0; at < stream.size();) {
        const size_t end = stream.find("\n\n", at);
        EXPECT_NE(end, stream.npos);
        const std::string event = stream.substr(at, end - at);
        EXPECT_TRUE(event.starts_with("data: ")) << event;
        EXPECT_EQ(event.find('\n'), event.npos);
        events.push_back(event == "data: [DONE]" ? json() : json::parse(event.substr(6)));
        at = end + 2;
    }
    return events;
}

}  // namespace

TEST(Responses, AnswerAsTheContractShowsIt) {
    const Usage usage{3382, 3328, 0, 41};
    const auto body = answer_body(head, {}, {{delta("Yes"), "stop"}}, usage);
    const auto expected = nlohmann::ordered_json::parse(R"({"id":"chatcmpl-1",
        "object":"chat.completion","created":1790000000,"model":"InternVL2-1B",
        "system_fingerprint":"fp_1","choices":[{"index":0,"message":{"role":"assistant",
        "content":"Yes","refusal":null},"logprobs":null,"finish_reason":"stop"}],
        "usage":{"prompt_tokens":3382,"completion_tokens":41,"total_tokens":3423,
        "prompt_tokens_details":{"cached_tokens":0,"text_tokens":54,"image_tokens":3328,
        "audio_tokens":0},"completion_tokens_details":{"reasoning_tokens":0,"audio_tokens":0,
        "accepted_prediction_tokens":0,"rejected_prediction_tokens":0}}})");
    EXPECT_EQ(body.dump(), expected.dump());
}

TEST(Responses, StreamInTheOrderOfTheContract) {
    AnswerEvents events(head, {.choices = 2, .token_ids = true, .usage = true});
    std::string stream = events.begin();
    stream += events.delta(1, delta("b", {5}));
    EXPECT_EQ(events.delta(0, delta("", {7})), "");  // no text yet
    stream += events.delta(0, delta("a", {8}));
    stream += events.finish(1, "length");
    AnswerInfo info;
    info.seed = -4;
    stream += events.finish(0, "stop", &info);
    EXPECT_EQ(events.unfinished(), 0);
    stream += events.end({10, 0, 0, 3});
    const std::vector<json> all = events_of(stream);
    ASSERT_EQ(all.size(), 8u);
    for (size_t i = 0; i < 2; ++i) {
        EXPECT_EQ(all[i]["choices"][0]["index"], i);
        EXPECT_EQ(all[i]["choices"][0]["delta"], json({{"role", "assistant"}, {"content", ""}}));
    }
    for (size_t i = 0; i < 6; ++i) {
        EXPECT_TRUE(all[i].contains("usage") && all[i]["usage"].is_null());
        EXPECT_EQ(all[i]["id"], "chatcmpl-1");
        EXPECT_EQ(all[i]["object"], "chat.completion.chunk");
        EXPECT_TRUE(all[i]["choices"][0].contains("logprobs"));
    }
    EXPECT_EQ(all[3]["choices"][0]["token_ids"], json({7, 8}));
    EXPECT_EQ(all[4]["choices"][0]["finish_reason"], "length");
    EXPECT_EQ(all[4]["choices"][0]["delta"], json::object());
    EXPECT_FALSE(all[4].contains("internvl"));
    EXPECT_EQ(all[5]["internvl"]["seed"], -4);
    EXPECT_EQ(all[6]["choices"], json::array());
    EXPECT_EQ(all[6]["usage"]["total_tokens"], 13);
    EXPECT_TRUE(all[7].is_null());
    AnswerEvents silent(head, {});
    for (const json& e : events_of(silent.begin() + silent.finish(0, "stop")))
        EXPECT_FALSE(e.contains("usage"));
    EXPECT_EQ(silent.end({}), "data: [DONE]\n\n");
}

TEST(Responses, LogprobsInBothShapes) {
    TokenLogprob token{{"é", "\xc3\xa9", false, -0.5f}, {{"x", "x", false, -1.0f}}};
    TokenLogprob dropped{{"<box>", "<box>", true, -2.0f}, {}};
    const Delta whole{"éé", {1, 2, 3}, {token, dropped, token}};
    const auto chat = answer_body(head, {.logprobs = true, .top = 1}, {{whole, "stop"}}, {});
    const auto& content = chat["choices"][0]["logprobs"]["content"];
    EXPECT_EQ(content[0]["bytes"], nlohmann::ordered_json({195, 169}));
    EXPECT_EQ(content[0]["top_logprobs"][0]["token"], "x");
    EXPECT_TRUE(content[1]["bytes"].is_null());
    AnswerHead plain = head;
    plain.chat = false;
    const auto legacy = answer_body(plain, {.logprobs = true, .top = 1}, {{whole, "stop"}}, {});
    EXPECT_EQ(legacy["object"], "text_completion");
    EXPECT_EQ(legacy["choices"][0]["text"], "éé");
    const auto& l = legacy["choices"][0]["logprobs"];
    EXPECT_EQ(l["text_offset"], nlohmann::ordered_json({0, 1, 1}));
    EXPECT_EQ(l["tokens"][1], "<box>");
    EXPECT_EQ(l["top_logprobs"][0]["x"], -1.0);
    AnswerEvents stream(plain, {.logprobs = true, .top = 1});
    EXPECT_EQ(stream.begin(), "");
    stream.delta(0, whole);
    const auto chunk = events_of(stream.delta(0, whole))[0];
    EXPECT_EQ(chunk["choices"][0]["logprobs"]["text_offset"], json({2, 3, 3}));
    EXPECT_EQ(chunk["choices"][0]["text"], "éé");
}

TEST(Responses, InfoHoldsBoxes) {
    AnswerInfo info;
    info.images = {{{0, 1}, 640, 480, {4, 3}, true, 13, 2}};
    info.answers = {"<ref>dog</ref><box>[[100, 200, 500, 800]]</box>", "nothing"};
    const auto body = info_body(info);
    ASSERT_EQ(body["boxes"].size(), 1u);
    EXPECT_EQ(body["boxes"][0]["label"], "dog");
    EXPECT_EQ(body["boxes"][0]["box"], nlohmann::ordered_json({100.0, 200.0, 500.0, 800.0}));
    EXPECT_EQ(body["boxes"][0]["pixels"], nlohmann::ordered_json({64.0, 96.0, 320.0, 384.0}));
    EXPECT_EQ(body["images"][0]["tokens"], 3328);
    EXPECT_EQ(body["images"][0]["tiles_cached"], 2);
    info.images.push_back(info.images[0]);
    EXPECT_TRUE(info_body(info)["boxes"][0]["pixels"].is_null());
}

// E1: the table of 3.5.
TEST(Errors, HaveStatusTypeAndHeaders) {
    const std::tuple<const char*, int, const char*, bool> table[] = {
        {"invalid_json", 400, "invalid_request_error", false},
        {"unsupported_media_type", 415, "invalid_request_error", false},
        {"missing_field", 400, "invalid_request_error", false},
        {"model_not_found", 404, "invalid_request_error", false},
        {"unknown_endpoint", 404, "invalid_request_error", false},
        {"method_not_allowed", 405, "invalid_request_error", false},
        {"header_too_large", 431, "invalid_request_error", false},
        {"payload_too_large", 413, "invalid_request_error", false},
        {"context_length_exceeded", 400, "invalid_request_error", false},
        {"url_not_allowed", 400, "invalid_request_error", false},
        {"invalid_api_key", 401, "authentication_error", false},
        {"not_permitted", 403, "permission_error", false},
        {"host_not_allowed", 403, "permission_error", false},
        {"rate_limit_exceeded", 429, "rate_limit_error", true},
        {"queue_full", 429, "rate_limit_error", true},
        {"deadline_exceeded", 504, "timeout_error", false},
        {"model_loading", 503, "server_error", true},
        {"shutting_down", 503, "server_error", true},
        {"engine_unavailable", 503, "server_error", true},
        {"internal_error", 500, "server_error", false},
    };
    for (const auto& [code, status, type, again] : table) {
        const RequestError e(code, "", "what");
        EXPECT_EQ(e.status, status) << code;
        EXPECT_EQ(e.type, type) << code;
        bool retry = false, never = false;
        for (const auto& [name, value] : error_headers(e)) {
            retry |= name == "Retry-After" && std::stoi(value) >= 1 && std::stoi(value) <= 60;
            never |= name == "x-should-retry" && value == "false";
        }
        EXPECT_EQ(retry, again) << code;
        EXPECT_EQ(never, !again) << code;
    }
    RequestError late("queue_full", "", "what");
    late.retry_after = 500;
    EXPECT_EQ(error_headers(late)[0].second, "60");
    EXPECT_EQ(error_body(RequestError("a", "b", "c")).dump(),
              R"({"error":{"message":"c","type":"invalid_request_error","param":"b","code":"a"}})");
    EXPECT_EQ(error_event(RequestError("a", "", "c")),
              "data: {\"error\":{\"message\":\"c\",\"type\":\"invalid_request_error\",\"param\":"
              "null,\"code\":\"a\"}}\n\n");
    EXPECT_LE(shown(json(std::string(1000, 'x'))).size(), 70u);
    EXPECT_EQ(internvl::quoted("a\nb\x1b"), R"("a\nb\u001b")");
}

TEST(Models, AreListed) {
    const auto body =
        models_body({{"OpenGVLab/InternVL2-1B", "", 5, 8192, 12, service_defaults().generate},
                     {"lora", "OpenGVLab/InternVL2-1B", 5, 8192}});
    const auto expected = nlohmann::ordered_json::parse(R"({"id":"OpenGVLab/InternVL2-1B",
        "object":"model","created":5,"owned_by":"internvl","max_model_len":8192,
        "modalities":["text","image","video"],"max_dynamic_patch":12,
        "defaults":{"temperature":0.7,"top_p":1.0,"top_k":40,"max_tokens":1024}})");
    EXPECT_EQ(body["data"][0].dump(), expected.dump());
    EXPECT_EQ(body["data"][1]["parent"], "OpenGVLab/InternVL2-1B");
    EXPECT_EQ(body["object"], "list");
}

}  // namespace internvl
