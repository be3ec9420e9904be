#include "serve/openai.h"

#include "base/base64.h"
#include "support.h"

namespace internvl {

using nlohmann::json;

static DialogueDefaults defaults() {
    DialogueDefaults d;
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
        parse_dialogue_request(body, defaults());
    } catch (const RequestError& e) {
        return e.code;
    }
    return "";
}

TEST(OpenAi, PlacesMedia) {
    const auto question = [](const json& content) {
        return parse_dialogue_request(user(content), defaults()).dialogue.rounds[0].question;
    };
    EXPECT_EQ(question("plain"), "plain");
    EXPECT_EQ(question({text("a"), picture()}), "a");
    EXPECT_EQ(question({picture(), picture(), text("Compare.")}), "Compare.");
    EXPECT_EQ(question({text("First"), picture(), text("then"), picture(), text("which?")}),
              "First\nImage-1: <image>\nthen\nImage-2: <image>\nwhich?");
    EXPECT_EQ(question({text("a"), picture(), text("b")}), "a\n<image>\nb");
}

TEST(OpenAi, ReadsHistoryAndOptions) {
    const json body = {{"model", "x"},
                       {"messages",
                        {{{"role", "system"}, {"content", "Be brief."}},
                         {{"role", "user"}, {"content", {picture(), text("a")}}},
                         {{"role", "assistant"}, {"content", "yes"}},
                         {{"role", "user"}, {"content", {text("t"), picture(), text("b")}}}}},
                       {"max_tokens", 7},
                       {"temperature", 0.5},
                       {"top_p", 0.9},
                       {"seed", 11},
                       {"stop", {"x", "y"}},
                       {"user", "somebody"}};
    const DialogueRequest r = parse_dialogue_request(body, defaults());
    EXPECT_EQ(r.dialogue.system, "Be brief.");
    ASSERT_EQ(r.dialogue.rounds.size(), 2u);
    EXPECT_EQ(r.dialogue.rounds[0].answer, "yes");
    EXPECT_EQ(r.dialogue.rounds[1].question, "t\nImage-2: <image>\nb");
    EXPECT_EQ(r.dialogue.generate.max_new_tokens, 7);
    EXPECT_TRUE(r.dialogue.generate.do_sample);
    EXPECT_EQ(r.dialogue.generate.stop.size(), 2u);
    EXPECT_FALSE(parse_dialogue_request(user("a"), defaults()).dialogue.generate.do_sample);
}

TEST(OpenAi, DataAddressesAndDetail) {
    json part = picture();
    part["image_url"] = {{"url", "data:image/png;base64,!!"}};
    EXPECT_EQ(code_of(user(json::array({part}))), "invalid_base64");
    part["image_url"] = {{"url", "data:image/png;base64,AAAA"}};
    EXPECT_EQ(code_of(user(json::array({part}))), "invalid_image");
    part["image_url"] = {{"url", "thirteen_tiles.jpg"}, {"detail", "low"}};
    const auto r = parse_dialogue_request(user(json::array({part})), defaults());
    EXPECT_EQ(std::get<Photo>(r.dialogue.rounds[0].media[0]).tiles(), 1);
    part["image_url"]["detail"] = "tiny";
    EXPECT_EQ(code_of(user(json::array({part}))), "invalid_value");
    part["image_url"] = {{"url", "https://example.com/a.png"}};
    EXPECT_EQ(code_of(user(json::array({part}))), "invalid_image_url");
}

TEST(OpenAi, RefusesByName) {
    json body = user("a");
    const std::tuple<const char*, json, const char*> cases[] = {
        {"n", 2, "unsupported_parameter"},
        {"tools", {{{"type", "function"}}}, "unsupported_parameter"},
        {"logprobs", true, "unsupported_parameter"},
        {"temperature", -1, "invalid_value"},
        {"temperature", "hot", "invalid_type"},
        {"top_p", 0, "invalid_value"},
        {"max_tokens", 0, "invalid_value"},
        {"max_tokens", 1.5, "invalid_type"},
        {"stop", {""}, "invalid_value"},
        {"messages", json::array(), "missing_field"},
        {"messages", {{{"role", "assistant"}, {"content", "a"}}}, "invalid_messages"},
        {"messages", {{{"role", "user"}}}, "missing_field"},
        {"messages", {{{"role", 3}, {"content", "a"}}}, "invalid_messages"},
        {"messages",
         {{{"role", "user"}, {"content", {{{"type", "file"}}}}}},
         "unsupported_content_part"},
    };
    for (const auto& [field, value, code] : cases) {
        json changed = body;
        changed[field] = value;
        EXPECT_EQ(code_of(changed), code) << field << ' ' << value;
    }
    EXPECT_EQ(code_of(json::array()), "invalid_type");
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

}  // namespace internvl
