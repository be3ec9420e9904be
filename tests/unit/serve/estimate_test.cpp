#include "serve/estimate.h"

#include <algorithm>

#include "base/base64.h"
#include "bodies.h"
#include "media/decode.h"
#include "serve/openapi.h"
#include "serve/responses.h"
#include "unit/text/folders.h"

namespace internvl {

namespace {

const ChatTemplate& hermes() {
    return find_template("Hermes-2");
}

ChatPlan plan(const json& body, std::vector<MediaSize> sizes,
              RequestDefaults defaults = test_defaults(), ChatRequest* planned = nullptr) {
    ChatRequest request = parse(body, defaults);
    const ChatPlan made =
        plan_chat(request, sizes, tiny("tiny-1b"), hermes(), "s", defaults.limits);
    if (planned) *planned = request;
    return made;
}

RequestError error_of(const json& body, const std::vector<MediaSize>& sizes,
                      const RequestDefaults& defaults = test_defaults()) {
    try {
        plan(body, sizes, defaults);
    } catch (const RequestError& e) {
        return e;
    }
    return {"none", "", ""};
}

}  // namespace

// T1, T2 of the contract.
TEST(Estimate, CountsAsTheReferenceWithTheReleasedTokenizer) {
    REQUIRE_OUTSIDE("data/tokenizer_vectors/slow/internvl2-1b");
    REQUIRE_OUTSIDE("data/tokenizers/internvl2-1b");
    const Tokenizer& tokenizer = real("internvl2-1b");
    const std::string& system = hermes().default_system;
    RequestDefaults d = test_defaults();
    ChatRequest hello = parse(chat_body("Hello, who are you?"));
    EXPECT_EQ(plan_chat(hello, {}, tokenizer, hermes(), system, d.limits).prompt.ids.size(), 51u);
    ChatRequest picture =
        parse(chat_body({image_part(), text_part("Please describe the image shortly.")}));
    const MediaSize size{640, 480};
    const ChatPlan p = plan_chat(picture, {&size, 1}, tokenizer, hermes(), system, d.limits);
    EXPECT_EQ(p.prompt.ids.size(), 3382u);
    EXPECT_EQ(p.text_tokens, 54);
    EXPECT_EQ(p.image_tokens, 3328);
    const auto body = estimate_body(p, true, d.limits, Calibration{1.5, 0.001});
    const auto expected =
        nlohmann::ordered_json::parse(R"({"object":"estimate","images":[{"index":0,
        "width":640,"height":480,"grid":[4,3],"thumbnail":true,"tiles":13,"tokens":3328}],
        "videos":[],"text_tokens":54,"image_tokens":3328,"prompt_tokens":3382,"input_tokens":3382,
        "max_model_len":8192,"fits":true,"kv_blocks":212})");
    for (const auto& [name, value] : expected.items()) EXPECT_EQ(body[name], value) << name;
    EXPECT_DOUBLE_EQ(body["seconds"]["vision"], 19.5);
}

// I1: the tile table of the specification by way of requests.
TEST(Estimate, TilesFollowLimits) {
    const auto tiles = [](int width, int height, int limit) {
        json part = image_part({{"url", "https://a.example/"}, {"max_dynamic_patch", limit}});
        RequestDefaults d = test_defaults();
        d.limits.max_model_len = 100'000;
        return plan(chat_body(json::array({part})), {{width, height}}, d).images[0].tiles;
    };
    EXPECT_EQ(tiles(448, 448, 12), 1);
    EXPECT_EQ(tiles(640, 480, 12), 13);
    EXPECT_EQ(tiles(640, 480, 1), 1);
    EXPECT_EQ(tiles(1, 5000, 12), 13);
}

TEST(Estimate, VideosHaveFrames) {
    json body = chat_body({text_part("What happens?"), video_part({{"num_segments", 2}})});
    const ChatPlan p = plan(body, {{320, 240, 2, 25, 100, {12, 60}}});
    EXPECT_EQ(p.image_tokens, 512);
    ASSERT_EQ(p.videos.size(), 1u);
    EXPECT_EQ(p.videos[0].tiles, 2);
    EXPECT_EQ(p.videos[0].place.part, 1);
}

// E5, P3: what does not fit.
TEST(Estimate, ThePromptAndItsAnswerMustFit) {
    RequestDefaults d = test_defaults();
    const int64_t text = int64_t(plan(chat_body(), {}).prompt.ids.size());
    d.limits.max_model_len = text;
    EXPECT_EQ(error_of(chat_body(), {}, d).code, "context_length_exceeded");
    d.limits.max_model_len = text + 1;
    ChatRequest planned;
    plan(chat_body(), {}, d, &planned);
    EXPECT_EQ(planned.answer.generate.max_new_tokens, 1);  // what is left
    json body = chat_body();
    body["max_tokens"] = 1;
    EXPECT_EQ(error_of(body, {}, d).code, "none");
    body["max_tokens"] = 2;
    EXPECT_EQ(error_of(body, {}, d).code, "context_length_exceeded");
    d.limits.clamp_max_tokens = true;
    plan(body, {}, d, &planned);
    EXPECT_EQ(planned.answer.generate.max_new_tokens, 1);

    const json picture = chat_body(json(5, image_part()));
    const RequestError e = error_of(picture, std::vector<MediaSize>(5, {640, 480}));
    EXPECT_EQ(e.code, "context_length_exceeded");
    const std::string message = e.what();
    EXPECT_NE(message.find("this model's maximum context length is 8192 tokens"),
              std::string::npos);
    EXPECT_NE(message.find("13, 13, 13, 13, 13"), std::string::npos) << message;
}

// I5.
TEST(Estimate, PicturesCanBeReduced) {
    json body = chat_body(json(5, image_part()));
    const std::vector<MediaSize> sizes(5, {640, 480});
    body["image_fit"] = "reduce";
    ChatRequest planned;
    const ChatPlan p = plan(body, sizes, test_defaults(), &planned);
    EXPECT_LE(int64_t(p.prompt.ids.size()) + 256, 8192);
    for (const EstimatedPicture& i : p.images) EXPECT_EQ(i.tiles, p.images[0].tiles);
    const int limit = planned.media[0].image.max_num;
    EXPECT_LT(limit, 12);
    // One more would not have fitted.
    EXPECT_GT(5 * 256 * count_tiles(640, 480, {1, limit + 1}) + p.text_tokens + 256, 8192);
}

TEST(Estimate, AllTilesTogetherAreLimited) {
    json body = chat_body(json::array({image_part()}));
    body["max_total_tiles"] = 3;
    const RequestError e = error_of(body, {{640, 480}});
    EXPECT_EQ(e.code, "too_many_tiles");
    EXPECT_NE(std::string(e.what()).find("13"), std::string::npos);
    body["image_fit"] = "reduce";
    EXPECT_LE(plan(body, {{640, 480}}).images[0].tiles, 3);
    body = chat_body(json(4, image_part()));
    body["max_total_tiles"] = 3;
    body["image_fit"] = "reduce";
    EXPECT_EQ(error_of(body, std::vector<MediaSize>(4, {640, 480})).code, "too_many_tiles");
}

TEST(Estimate, FromSizesAlone) {
    const RequestDefaults d = test_defaults();
    const EstimateRequest r = parse_estimate_request(
        {{"images", {{{"width", 640}, {"height", 480}}, {{"width", 448}, {"height", 448}}}},
         {"videos", json::array({{{"frames", 8}}})}},
        d);
    ASSERT_EQ(r.media.size(), 3u);
    const ChatPlan p = plan_media(r, r.sizes);
    const auto body = estimate_body(p, false, d.limits, {});
    EXPECT_EQ(body["image_tokens"], (13 + 1 + 8) * 256);
    EXPECT_TRUE(body["text_tokens"].is_null() && body["prompt_tokens"].is_null() &&
                body["input_tokens"].is_null() && body["seconds"].is_null());
    const std::vector<std::pair<std::string, std::string>> query = {
        {"width", "640"}, {"height", "480"}, {"max_num", "6"}, {"use_thumbnail", "false"}};
    const EstimateRequest q = parse_estimate_query(query, d);
    EXPECT_EQ(plan_media(q, q.sizes).images[0].tiles, count_tiles(640, 480, {1, 6, false}));
    const auto code = [&](std::vector<std::pair<std::string, std::string>> bad) {
        try {
            parse_estimate_query(bad, d);
        } catch (const RequestError& e) {
            return e.code + " " + e.param;
        }
        return std::string();
    };
    EXPECT_EQ(code({{"width", "640"}}), "missing_field height");
    EXPECT_EQ(code({{"width", "x"}, {"height", "1"}}), "invalid_type width");
    EXPECT_EQ(code({{"width", "0"}, {"height", "1"}}), "invalid_value width");
    EXPECT_EQ(code({{"width", "40000"}, {"height", "1"}}), "invalid_value width");
    EXPECT_EQ(code({}), "missing_field width");
    EXPECT_EQ(code({{"colour", "red"}}), "unsupported_parameter colour");
    const EstimateRequest chat = parse_estimate_request(chat_body(), d);
    EXPECT_TRUE(chat.chat.has_value());
}

TEST(Estimate, ShowsTiles) {
    Tiles tiles{{1, 2}, 2, 4, std::vector<uint8_t>(2 * 4 * 4 * 3)};
    for (size_t i = 0; i < tiles.rgb.size(); ++i) tiles.rgb[i] = uint8_t(i);
    const auto list = tiles_png(tiles);
    ASSERT_EQ(list.size(), 2u);
    const std::string second = list[1], head = "data:image/png;base64,";
    ASSERT_TRUE(second.starts_with(head));
    const auto file = decode_base64(second.substr(head.size())).value();
    const Image image =
        decode_image({reinterpret_cast<const uint8_t*>(file.data()), file.size()}, {}, "tile");
    EXPECT_EQ(image.rgb, std::vector<uint8_t>(tiles.rgb.begin() + 48, tiles.rgb.end()));
}

// O5: what /tokenize says is what is prefilled.
TEST(Tokenize, GivesTheIdsOfTextAndOfChats) {
    const RequestDefaults d = test_defaults();
    const Tokenizer& tokenizer = tiny("tiny-2b");
    const TokenizeRequest text = parse_tokenize_request(
        {{"prompt", "Hello"}, {"return_token_strs", true}, {"add_special_tokens", false}}, d);
    EXPECT_FALSE(text.add_special_tokens);
    const Prompt plain = plain_prompt(tokenizer, "Hello", false);
    const Prompt begun = plain_prompt(tokenizer, "Hello", true);
    EXPECT_EQ(begun.ids.size(), plain.ids.size() + 1);
    const auto body = tokenize_body(tokenizer, plain, d.limits, true);
    EXPECT_EQ(body["count"], plain.ids.size());
    EXPECT_EQ(body["token_strs"].size(), plain.ids.size());
    EXPECT_TRUE(tokenize_body(tokenizer, plain, d.limits, false)["token_strs"].is_null());
    EXPECT_EQ(detokenize_body(tokenizer, plain.ids)["prompt"], "Hello");
    EXPECT_TRUE(std::holds_alternative<ChatRequest>(
        parse_tokenize_request({{"messages", chat_body()["messages"]}}, d).what));
    const auto code = [&](const json& bad) {
        try {
            parse_tokenize_request(bad, d);
        } catch (const RequestError& e) {
            return e.code;
        }
        return std::string();
    };
    EXPECT_EQ(code(json::object()), "missing_field");
    EXPECT_EQ(code({{"prompt", "a"}, {"messages", chat_body()["messages"]}}), "invalid_value");
    EXPECT_EQ(code({{"prompt", std::string((4 << 20) + 1, 'a')}}), "payload_too_large");
    EXPECT_THROW(parse_detokenize_request({{"tokens", {1000}}}, d.limits), RequestError);
    EXPECT_EQ(parse_detokenize_request({{"tokens", {1, 2}}}, d.limits), (std::vector<int>{1, 2}));
}

// O4.
TEST(OpenApi, NamesRoutesAndRanges) {
    const auto doc = openapi_document(test_defaults(), "1.2.3");
    EXPECT_EQ(doc["openapi"], "3.1.0");
    for (const char* path :
         {"/v1/models", "/v1/models/{id}", "/v1/chat/completions", "/v1/completions", "/tokenize",
          "/detokenize", "/v1/estimate", "/v1/chat/completions/input_tokens", "/health", "/livez",
          "/readyz", "/metrics", "/version", "/", "/docs", "/openapi.json"})
        EXPECT_TRUE(doc["paths"].contains(path)) << path;
    const auto& chat = doc["paths"]["/v1/chat/completions"]["post"]["requestBody"]["content"]
                          ["application/json"]["schema"];
    EXPECT_EQ(chat["required"], nlohmann::ordered_json::array({"model", "messages"}));
    const auto& fields = chat["properties"];
    EXPECT_EQ(fields["temperature"]["minimum"], 0);
    EXPECT_EQ(fields["temperature"]["maximum"], 2);
    EXPECT_EQ(fields["temperature"]["default"], 0.7);
    EXPECT_EQ(fields["top_p"]["exclusiveMinimum"], 0);
    EXPECT_EQ(fields["top_k"]["maximum"], 1000);
    EXPECT_EQ(fields["n"]["maximum"], 8);
    EXPECT_EQ(fields["user"]["maxLength"], 512);
    EXPECT_EQ(fields["stop"]["items"]["maxLength"], 1024);
    EXPECT_EQ(fields["image_placement"]["enum"].size(), 5u);
    EXPECT_FALSE(fields.contains("prompt"));
}

}  // namespace internvl
