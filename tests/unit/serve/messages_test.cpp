#include <cmath>

#include "bodies.h"
#include "serve/estimate.h"

namespace internvl {

namespace {

json message(const char* role, const json& content) {
    return {{"role", role}, {"content", content}};
}
json conversation(const std::vector<json>& messages) {
    return {{"model", "m"}, {"messages", messages}};
}
std::string words(const Message& m) {
    std::string all;
    for (const MessagePart& p : m.parts)
        all += p.media < 0 ? p.text : "[" + std::to_string(p.media) + "]";
    return all;
}

}  // namespace

TEST(Messages, KeepTheirPartsInOrder) {
    const ChatRequest r = parse(conversation(
        {message("system", "S"), message("user", {text_part("a"), image_part(), text_part("b")}),
         message("assistant", "c"), message("user", {video_part(), text_part("d")})}));
    ASSERT_EQ(r.messages.size(), 4u);
    EXPECT_EQ(words(r.messages[0]), "S");
    EXPECT_EQ(words(r.messages[1]), "a[0]b");
    EXPECT_EQ(words(r.messages[2]), "c");
    EXPECT_EQ(words(r.messages[3]), "[1]d");
    EXPECT_EQ(r.media[0].param, "messages[1].content[1].image_url.url");
    EXPECT_EQ(r.media[1].param, "messages[3].content[0].video_url.url");
    EXPECT_EQ(r.places[1].message, 3);
    EXPECT_EQ(r.places[0].part, 1);
}

// T3: system and developer.
TEST(Messages, OfTheSystemComeFirst) {
    const json user = message("user", "a");
    EXPECT_EQ(parse(conversation({user})).messages.size(), 1u);
    const ChatRequest two = parse(conversation(
        {message("system", "A"), message("developer", json::array({text_part("B")})), user}));
    ASSERT_EQ(two.messages.size(), 2u);
    EXPECT_EQ(two.messages[0].parts.size(), 2u);
    EXPECT_EQ(two.messages[0].role, Message::Role::system);
    EXPECT_EQ(parse(conversation({message("system", ""), user})).messages.size(), 2u);
    EXPECT_EQ(refusal(conversation({user, message("system", "A")})),
              "invalid_messages messages[1].role");
}

// T9 and the rows of 2.1.
TEST(Messages, AreRefusedWithTheirPlace) {
    const json user = message("user", "a");
    const json tool_calls = {{"role", "assistant"}, {"tool_calls", json::array({1})}};
    const std::tuple<json, const char*> table[] = {
        {conversation({message("tool", "a"), user}), "unsupported_parameter messages[0].role"},
        {conversation({message("function", "a")}), "unsupported_parameter messages[0].role"},
        {conversation({message("wizard", "a")}), "invalid_value messages[0].role"},
        {conversation({user, tool_calls, user}), "unsupported_parameter messages[1].tool_calls"},
        {conversation({message("assistant", "a")}), "invalid_messages messages"},
        {conversation({message("system", "a")}), "invalid_messages messages"},
        {conversation({{{"content", "a"}}}), "missing_field messages[0].role"},
        {conversation({{{"role", 3}, {"content", "a"}}}), "invalid_type messages[0].role"},
        {conversation({{{"role", "user"}}}), "missing_field messages[0].content"},
        {conversation({message("user", nullptr)}), "missing_field messages[0].content"},
        {conversation({message("user", 5)}), "invalid_type messages[0].content"},
        {conversation({message("user", json::array())}), "invalid_value messages[0].content"},
        {conversation({message("user", {5})}), "invalid_type messages[0].content[0]"},
        {conversation({message("user", json::array({json::object()}))}),
         "missing_field messages[0].content[0].type"},
        {conversation({message("user", {{{"type", "input_audio"}}})}),
         "unsupported_content_part messages[0].content[0].type"},
        {conversation({message("user", {{{"type", "file"}}})}),
         "unsupported_content_part messages[0].content[0].type"},
        {conversation({message("user", {{{"type", "image_embeds"}}})}),
         "unsupported_content_part messages[0].content[0].type"},
        {conversation({message("user", {{{"type", "refusal"}, {"refusal", "x"}}})}),
         "unsupported_content_part messages[0].content[0].type"},
        {conversation({message("user", {{{"type", "text"}}})}),
         "missing_field messages[0].content[0].text"},
        {conversation({user, message("assistant", json::array({image_part()})), user}),
         "unsupported_content_part messages[1].content[0].type"},
        {conversation({message("system", json::array({image_part()})), user}),
         "unsupported_content_part messages[0].content[0].type"},
        {conversation({json("a")}), "invalid_type messages[0]"},
        {conversation({{{"role", "user"}, {"content", "a"}, {"name", 5}}}),
         "invalid_type messages[0].name"},
    };
    for (const auto& [body, expected] : table) EXPECT_EQ(refusal(body), expected) << body;
    json dumped = message("assistant", nullptr);
    for (const char* name : {"refusal", "audio", "function_call", "tool_calls", "annotations"})
        dumped[name] = nullptr;
    EXPECT_EQ(refusal(conversation({user, dumped, user})), "");
    EXPECT_EQ(refusal(conversation(
                  {user, message("assistant", {{{"type", "refusal"}, {"refusal", "no"}}}), user})),
              "");
}

// T8 and 2.5.
TEST(Messages, LastOfTheAssistantIsContinued) {
    const json user = message("user", "a"), begun = message("assistant", "The answer is");
    const auto with = [&](const json& more, bool assistant_last) {
        json body =
            conversation(assistant_last ? std::vector<json>{user, begun} : std::vector<json>{user});
        body.update(more);
        return body;
    };
    EXPECT_TRUE(parse(with(json::object(), true)).prompt.continue_last);
    EXPECT_FALSE(parse(with({{"continue_final_message", false}}, true)).prompt.continue_last);
    const std::tuple<json, bool, const char*> table[] = {
        {{{"continue_final_message", true}}, true, ""},
        {{{"continue_final_message", true}, {"add_generation_prompt", false}}, true, ""},
        {{{"add_generation_prompt", false}}, true, ""},
        {{{"add_generation_prompt", true}}, true, ""},
        {{{"continue_final_message", true}, {"add_generation_prompt", true}},
         true,
         "invalid_value add_generation_prompt"},
        {{{"add_generation_prompt", false}}, false, "invalid_value add_generation_prompt"},
        {{{"continue_final_message", true}}, false, "invalid_value continue_final_message"},
        {{{"continue_final_message", false}, {"add_generation_prompt", false}},
         true,
         "invalid_value add_generation_prompt"},
    };
    for (const auto& [more, last, expected] : table)
        EXPECT_EQ(refusal(with(more, last)), expected) << more;
}

// I2: the order in which limits of tiles count.
TEST(MediaFields, TheFirstLimitOfTilesCounts) {
    const auto tiles = [](const json& spec, const json& more = json::object(),
                          const RequestDefaults& d = test_defaults()) {
        json part = spec;
        part["url"] = "https://example.com/a.png";
        json body = chat_body(json::array({image_part(part)}));
        body.update(more);
        return parse(body, d).media[0].image.max_num;
    };
    const json kwargs = {{"mm_processor_kwargs", {{"max_dynamic_patch", 9}}}};
    EXPECT_EQ(tiles({{"max_dynamic_patch", 3}, {"detail", "high"}}, kwargs), 3);
    EXPECT_EQ(tiles({{"detail", "low"}}, kwargs), 1);
    EXPECT_EQ(tiles({{"detail", "auto"}}, kwargs), 9);
    EXPECT_EQ(tiles(json::object(), kwargs), 9);
    EXPECT_EQ(tiles(json::object()), 12);
    const std::pair<const char*, std::pair<int, int>> details[] = {{"low", {1, 6}},
                                                                   {"medium", {6, 12}},
                                                                   {"auto", {12, 12}},
                                                                   {"high", {12, 24}},
                                                                   {"original", {24, 24}}};
    RequestDefaults lmdeploy = test_defaults();
    lmdeploy.limits.lmdeploy_details = true;
    for (const auto& [detail, expected] : details) {
        EXPECT_EQ(tiles({{"detail", detail}}), expected.first) << detail;
        EXPECT_EQ(tiles({{"detail", detail}}, json::object(), lmdeploy), expected.second) << detail;
    }
}

TEST(MediaFields, AreRefusedWithTheirPlace) {
    const std::string picture = "messages[0].content[0].image_url.",
                      video = "messages[0].content[0].video_url.";
    const auto with = [](json spec) {
        spec["url"] = "https://example.com/a.png";
        return image_part(spec);
    };
    const std::tuple<json, std::string> table[] = {
        {with({{"max_dynamic_patch", 0}}), "invalid_value " + picture + "max_dynamic_patch"},
        {with({{"max_dynamic_patch", 41}}), "invalid_value " + picture + "max_dynamic_patch"},
        {with({{"max_dynamic_patch", "6"}}), "invalid_type " + picture + "max_dynamic_patch"},
        {with({{"max_dynamic_patch", 2}, {"min_dynamic_patch", 3}}),
         "invalid_value " + picture + "min_dynamic_patch"},
        {with({{"detail", "tiny"}}), "invalid_value " + picture + "detail"},
        {with({{"use_thumbnail", 1}}), "invalid_type " + picture + "use_thumbnail"},
        {image_part(json::object()), "missing_field " + picture + "url"},
        {image_part(nullptr), "missing_field messages[0].content[0].image_url"},
        {image_part(5), "invalid_type messages[0].content[0].image_url"},
        {image_part({{"url", "ftp://example.com/a"}}), "invalid_image_url " + picture + "url"},
        {image_part({{"url", "/etc/passwd"}}), "invalid_image_url " + picture + "url"},
        {image_part({{"url", ""}}), "invalid_image_url " + picture + "url"},
        {image_part("iVBORw0KGgo"), "invalid_image_url " + picture + "url"},
        {image_part("data:image/png;base64,AAAA"), ""},
        {image_part("HTTPS://example.com/a.png"), ""},
        {video_part({{"num_segments", 0}}), "invalid_value " + video + "num_segments"},
        {video_part({{"num_segments", 129}}), "too_many_frames " + video + "num_segments"},
        {video_part({{"num_segments", 128}}), ""},
        {video_part({{"num_segments", 4}, {"fps", 2}}), "invalid_value " + video + "fps"},
        {video_part({{"fps", 0}}), "invalid_value " + video + "fps"},
        {video_part({{"fps", 60}}), ""},
        {video_part({{"fps", 60.5}}), "invalid_value " + video + "fps"},
        {video_part({{"bound", {1, 5}}}), ""},
        {video_part({{"bound", {5, 1}}}), "invalid_value " + video + "bound"},
        {video_part({{"bound", {-1, 1}}}), "invalid_value " + video + "bound"},
        {video_part({{"bound", json::array({1})}}), "invalid_value " + video + "bound"},
        {video_part({{"bound", 3}}), "invalid_type " + video + "bound"},
        {video_part({{"start", 3}, {"end", 3}}), "invalid_value " + video + "end"},
        {video_part({{"start", 3}, {"bound", {1, 2}}}), "invalid_value " + video + "bound"},
        {video_part({{"max_dynamic_patch", 41}}), "invalid_value " + video + "max_dynamic_patch"},
    };
    for (const auto& [part, expected] : table)
        EXPECT_EQ(refusal(chat_body(json::array({part}))), expected) << part;
}

TEST(MediaFields, OfVideos) {
    const auto video = [](const json& spec, const json& more = json::object()) {
        json body = chat_body(json::array({video_part(spec)}));
        body.update(more);
        return parse(body).media[0];
    };
    EXPECT_EQ(video(json::object()).video.num_segments, 8);
    EXPECT_EQ(video(json::object()).video.image.max_num, 1);
    EXPECT_EQ(video({{"start", 1}}).video.bound->first, 1);
    EXPECT_EQ(video({{"bound", {1, 5}}}).video.bound, std::pair(1.0, 5.0));
    const json sixteen = {{"media_io_kwargs", {{"video", {{"num_frames", 16}}}}}};
    const json two_a_second = {{"media_io_kwargs", {{"video", {{"fps", 2}}}}}};
    EXPECT_EQ(video(json::object(), sixteen).video.num_segments, 16);
    EXPECT_EQ(video({{"num_segments", 4}}, sixteen).video.num_segments, 4);
    EXPECT_EQ(video(json::object(), two_a_second).fps, 2);
    EXPECT_FALSE(video({{"num_segments", 4}}, two_a_second).fps);
    // Frames of a clip of 10 s at 25 frames a second.
    EXPECT_EQ(frames_of(video({{"fps", 2}}), 25, 250, 128), 20);
    EXPECT_EQ(frames_of(video({{"fps", 0.25}}), 25, 250, 128), 2);  // 2.5, to even
    EXPECT_EQ(frames_of(video({{"fps", 60}}), 25, 250, 128), 128);
    EXPECT_EQ(frames_of(video({{"fps", 0.01}}), 25, 250, 128), 1);
    EXPECT_EQ(frames_of(video({{"fps", 2}, {"bound", {1, 5}}}), 25, 250, 128), 8);
    EXPECT_EQ(frames_of(video({{"fps", 2}, {"start", 8}}), 25, 250, 128), 4);
    EXPECT_EQ(frames_of(video({{"num_segments", 5}}), 25, 250, 128), 5);
}

TEST(MediaFields, TooMany) {
    EXPECT_EQ(refusal(chat_body(json(33, image_part()))), "too_many_images messages");
    EXPECT_EQ(refusal(chat_body(json(32, image_part()))), "");
    EXPECT_EQ(refusal(chat_body(json(2, video_part()))), "too_many_frames messages");
    EXPECT_EQ(refusal(chat_body(json(10000, text_part("a")))), "invalid_value messages[0].content");
}

TEST(MediaFields, MarksMustMatch) {
    json body = chat_body({text_part("<image> <image>"), image_part(), image_part(), image_part()});
    EXPECT_EQ(refusal(body), "");
    body["image_placement"] = "markers";
    EXPECT_EQ(refusal(body), "image_marker_mismatch messages[0].content");
    body["messages"][0]["content"].erase(3);
    EXPECT_EQ(refusal(body), "");
    body["messages"][0]["content"].push_back(video_part());
    EXPECT_EQ(refusal(body), "image_marker_mismatch messages[0].content");
}

static std::string json_error(std::string_view text) {
    try {
        parse_request_json(text);
    } catch (const RequestError& e) {
        return e.code + ": " + e.what();
    }
    return "";
}

TEST(RequestJson, IsReadStrictly) {
    EXPECT_EQ(json_error(R"({"a": [1, -2.5, true, null, "\ud83d\ude00 é"]})"), "");
    EXPECT_EQ(parse_request_json(R"({"a": 1, "b": 5, "a": {"c": 2}})").dump(),
              R"({"a":{"c":2},"b":5})");
    for (const char* bad : {"", "{", "[1]", "5", "{} x", "{\"a\": 1e400}", "{\"a\": NaN}",
                            "{\"a\": \"\\ud800\"}", "{\"a\": \"\\udc00\"}", "{\"a\": \"\xff\"}",
                            "{'a': 1}", "{\"a\": 1,}", "{\"a\" 1}", "{\"a\": 01}"})
        EXPECT_EQ(json_error(bad).substr(0, 12), "invalid_json") << bad;
    EXPECT_NE(json_error("{\"a\": 1e400}").find("byte 11"), std::string::npos)
        << json_error("{\"a\": 1e400}");
    const auto nested = [](size_t levels) {
        return "{\"a\":" + std::string(levels - 1, '[') + std::string(levels - 1, ']') + "}";
    };
    EXPECT_EQ(json_error(nested(64)), "");
    EXPECT_NE(json_error(nested(65)), "");
    EXPECT_NE(json_error(nested(100'000)).find("64 levels"), std::string::npos);
}

TEST(RequestJson, RefusesMillionsOfKeysQuickly) {
    std::string body = "{\"a\":0";
    for (int i = 0; i < 1'000'000; ++i) body += ",\"k" + std::to_string(i) + "\":0";
    body += "}";
    const auto begin = std::chrono::steady_clock::now();
    EXPECT_NE(json_error(body), "");
    const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - begin;
    EXPECT_LT(seconds.count(), 1);
}

}  // namespace internvl
