#include "serve/openai.h"

#include "base/base64.h"
#include "support.h"

namespace internvl {

using nlohmann::json;

static FileDefaults defaults() {
    FileDefaults d;
    d.folder = golden("media");
    return d;
}

static json user(const json& content) {
    return {{"messages", {{{"role", "user"}, {"content", content}}}}};
}
static json text(const std::string& t) {
    return {{"type", "text"}, {"text", t}};
}
static json picture(const std::string& file = "rgb_1tile.png") {
    return {{"type", "image_url"}, {"image_url", {{"url", file}}}};
}

static std::string code_of(const json& body) {
    try {
        parse_file_request(body, defaults());
    } catch (const RequestError& e) {
        return e.code;
    }
    return "";
}

TEST(FileRequest, LoadsMedia) {
    json part = picture();
    const auto photo = [&] {
        const FileRequest r = parse_file_request(user(json::array({part})), defaults());
        return std::get<Photo>(r.conversation.media.at(0)).tiles();
    };
    EXPECT_EQ(photo(), 1);
    part["image_url"] = {{"url", "file://" + golden("media/thirteen_tiles.jpg")}};
    EXPECT_EQ(photo(), 13);
    part["image_url"]["detail"] = "low";
    EXPECT_EQ(photo(), 1);
    part["image_url"]["detail"] = "tiny";
    EXPECT_EQ(code_of(user(json::array({part}))), "invalid_value");
    part["image_url"] = {{"url", "data:image/png;base64,!!"}};
    EXPECT_EQ(code_of(user(json::array({part}))), "invalid_base64");
    part["image_url"] = {{"url", "data:image/png;base64,AAAA"}};
    EXPECT_EQ(code_of(user(json::array({part}))), "invalid_image");
    part["image_url"] = {{"url", "https://example.com/a.png"}};
    EXPECT_EQ(code_of(user(json::array({part}))), "invalid_image_url");
}

TEST(FileRequest, ReadsHistoryAndOptions) {
    const json body = {{"model", "x"},
                       {"messages",
                        {{{"role", "system"}, {"content", "Be brief."}},
                         {{"role", "user"}, {"content", {picture(), text("a")}}},
                         {{"role", "assistant"}, {"content", "yes"}},
                         {{"role", "user"}, {"content", {text("t"), picture(), text("b")}}}}},
                       {"max_tokens", 7},
                       {"temperature", 0.5},
                       {"seed", 11},
                       {"stop", {"x", "y"}},
                       {"user", "somebody"}};
    const FileRequest r = parse_file_request(body, defaults());
    const Conversation& c = r.conversation;
    EXPECT_EQ(r.model, "x");
    EXPECT_EQ(c.messages.size(), 4u);
    EXPECT_EQ(c.media.size(), 2u);
    EXPECT_EQ(c.generate.max_new_tokens, 7);
    EXPECT_EQ(c.generate.seed, 11u);
    EXPECT_TRUE(c.generate.do_sample);
    EXPECT_THROW(to_question(r), RequestError);
    const FileRequest plain =
        parse_file_request(user({text("a"), picture(), text("b")}), defaults());
    EXPECT_FALSE(plain.conversation.generate.do_sample);
    EXPECT_EQ(plain.conversation.generate.seed, GenerateOptions().seed);
    const Dialogue question = to_question(plain);
    ASSERT_EQ(question.rounds.size(), 1u);
    EXPECT_EQ(question.rounds[0].question, "a\nb");
    EXPECT_EQ(question.rounds[0].media.size(), 1u);
}

TEST(FileRequest, RefusesWhatServesOnly) {
    const std::pair<const char*, json> cases[] = {{"n", 2},
                                                  {"stream", true},
                                                  {"logprobs", true},
                                                  {"return_info", true},
                                                  {"max_total_tiles", 5},
                                                  {"image_fit", "reduce"}};
    for (const auto& [field, value] : cases) {
        json changed = user("a");
        changed[field] = value;
        EXPECT_EQ(code_of(changed), "unsupported_parameter") << field;
    }
    EXPECT_EQ(code_of(user("a")), "");
}

TEST(FileRequest, ItsAnswerIsACompletion) {
    Result r;
    r.text = "yes";
    r.ids = {5, 6, 99};
    r.finish_reason = "stop";
    r.prompt_ids = {1, 2, 3};
    const auto body = chat_completion(r, {"m", "chatcmpl-1", 7, true});
    EXPECT_EQ(body["choices"][0]["message"]["content"], "yes");
    EXPECT_EQ(body["choices"][0]["token_ids"],
              nlohmann::ordered_json({5, 6}));  // without the stop token
    EXPECT_EQ(body["usage"]["completion_tokens"], 2);
    EXPECT_EQ(body["usage"]["prompt_tokens"], 3);
    r.finish_reason = "length";
    EXPECT_EQ(chat_completion(r, {"m", "x", 7, false})["usage"]["completion_tokens"], 3);
}

TEST(Base64, Decodes) {
    const auto text = [](std::string_view s) -> std::string {
        const auto bytes = decode_base64(s);
        if (!bytes) return "malformed";
        return {reinterpret_cast<const char*>(bytes->data()), bytes->size()};
    };
    EXPECT_EQ(text(""), "");
    EXPECT_EQ(text("TQ=="), "M");
    EXPECT_EQ(text("TWE"), "Ma");
    EXPECT_EQ(text("TW\nFu"), "Man");
    for (const char* bad : {"T", "T===", "TW=u", "T!Fu", "TWFu="})
        EXPECT_EQ(text(bad), "malformed");
}

TEST(Base64, Encodes) {
    std::string bytes;
    for (int i = 0; i < 256; ++i) {
        const auto back = decode_base64(encode_base64(bytes));
        ASSERT_TRUE(back.has_value());
        EXPECT_EQ(std::string(reinterpret_cast<const char*>(back->data()), back->size()), bytes);
        bytes += char(i * 37);
    }
    EXPECT_EQ(encode_base64("Ma"), "TWE=");
    EXPECT_EQ(encode_base64("M"), "TQ==");
}

}  // namespace internvl
