// Prompts of whole conversations: api.md 2.3 to 2.5.
#include <algorithm>
#include <set>

#include "base/error.h"
#include "engine/prompt.h"
#include "support.h"
#include "unit/text/folders.h"

namespace internvl {

namespace {

using Role = Message::Role;

const ChatTemplate& chat_of(const std::string& name) {
    return find_template(name.find("4b") != name.npos ? "phi3-chat"
                         : name == "tiny-2b" || name == "tiny-26b" || name == "internvl2-2b"
                             ? "internlm2-chat"
                             : "Hermes-2");
}

// Pictures of one tile, then a video of two frames.
const std::vector<MediaTiles> media = {{{1}}, {{1}}, {{1}}, {{1, 1}, true}, {{1, 1}, true}};

MessagePart words(const std::string& text) {
    return {text};
}
MessagePart picture(int number) {
    return {"", number};
}
const MessagePart video = {"", 3}, second_video = {"", 4};

std::string shortened(std::string text) {
    for (size_t at; (at = text.find("<IMG_CONTEXT>")) != text.npos;) {
        size_t end = at;
        while (text.compare(end, 13, "<IMG_CONTEXT>") == 0) end += 13;
        text.erase(at, end - at);
    }
    for (size_t at; (at = text.find("<img></img>")) != text.npos;) text.replace(at, 11, "<image>");
    return text;
}

Prompt prompt_of(const std::vector<Message>& messages, PromptOptions options = {},
                 const std::string& name = "tiny-1b") {
    return build_prompt(tiny(name), chat_of(name), "s", messages, media, options);
}

// The words of one user's turn.
std::string turn(std::vector<MessagePart> parts, Placement placement = Placement::automatic) {
    const std::string all =
        shortened(prompt_of({{Role::user, std::move(parts)}}, {placement}).text);
    const std::string before = "<|im_start|>system\ns<|im_end|><|im_start|>user\n",
                      after = "<|im_end|><|im_start|>assistant\n";
    EXPECT_TRUE(all.starts_with(before) && all.ends_with(after)) << all;
    return all.substr(before.size(), all.size() - before.size() - after.size());
}

}  // namespace

// T5: all rows of the table.
TEST(Conversation, PlacesPictures) {
    EXPECT_EQ(turn({words("describe this image"), picture(0)}), "<image>\ndescribe this image");
    EXPECT_EQ(turn({picture(0), picture(1), words("Compare.")}),
              "Image-1: <image>\nImage-2: <image>\nCompare.");
    EXPECT_EQ(turn({words("First"), picture(0), words("then"), picture(1), words("which?")}),
              "First\nImage-1: <image>\nthen\nImage-2: <image>\nwhich?");
    EXPECT_EQ(
        turn({words("Image-1: <image>\nImage-2: <image>\nDescribe."), picture(0), picture(1)}),
        "Image-1: <image>\nImage-2: <image>\nDescribe.");
    EXPECT_EQ(turn({words("What happens?"), video}),
              "Frame1: <image>\nFrame2: <image>\nWhat happens?");
    EXPECT_EQ(turn({words("a literal <image>")}), "a literal <image>");
    EXPECT_EQ(turn({video, second_video, words("?")}),
              "Frame1: <image>\nFrame2: <image>\nFrame1: <image>\nFrame2: <image>\n?");
    EXPECT_EQ(turn({words("two <image> marks <image>"), picture(0), picture(1), picture(2)}),
              "Image-1: <image>\nImage-2: <image>\nImage-3: <image>\ntwo <image> marks <image>");
    EXPECT_EQ(turn({words("<image>"), video}), "Frame1: <image>\nFrame2: <image>\n<image>");
    EXPECT_EQ(turn({words("a"), video, picture(0), words("b")}),
              "a\nFrame1: <image>\nFrame2: <image>\n<image>\nb");
    EXPECT_EQ(turn({words("a"), words("b\n"), words("c")}), "a\nb\nc");
    EXPECT_EQ(turn({words("a <IMAGE_TOKEN> b"), picture(0)}), "a <image> b");
}

TEST(Conversation, PlacesPicturesAsAsked) {
    EXPECT_EQ(turn({words("a"), picture(0)}, Placement::parts), "a\n<image>\n");
    EXPECT_EQ(turn({words("a\n"), picture(0), picture(1)}, Placement::parts),
              "a\nImage-1: <image>\nImage-2: <image>\n");
    EXPECT_EQ(turn({words("a"), picture(0), words("b"), picture(1)}, Placement::plain_marks),
              "a\n<image>\nb\n<image>\n");
    EXPECT_EQ(turn({words("a"), picture(0), words("b"), picture(1)}, Placement::combined),
              "<image>\na\nb");
    EXPECT_EQ(turn({words("a <image><image>"), picture(0), picture(1)}, Placement::markers),
              "a <image><image>");
    EXPECT_EQ(turn({words("a")}, Placement::markers), "a");
    EXPECT_THROW(turn({words("a"), picture(0)}, Placement::markers), Error);
    EXPECT_THROW(turn({words("<image>"), video}, Placement::markers), Error);
    EXPECT_THROW(turn({words("<image>")}, Placement::markers), Error);
}

// T4: numbers go on, and the first turns stay as they were.
TEST(Conversation, NumbersPicturesThroughout) {
    std::vector<Message> all = {{Role::user, {picture(0), words("a")}},
                                {Role::assistant, {words("x")}}};
    const std::string first = prompt_of({all[0]}).text;
    all.push_back({Role::user, {video, words("v")}});
    all.push_back({Role::assistant, {words("y")}});
    all.push_back({Role::user, {words("b"), picture(1)}});
    const std::string text = prompt_of(all).text;
    EXPECT_TRUE(text.starts_with(first));
    EXPECT_NE(shortened(text).find("user\nImage-2: <image>\nb<|im_end|>"), std::string::npos);
}

TEST(Conversation, TellsWhereItsPicturesAre) {
    const Tokenizer& tokenizer = tiny("tiny-1b");
    const int row = tokenizer.find("<IMG_CONTEXT>").value();
    for (const Placement placement : {Placement::automatic, Placement::combined}) {
        const Prompt p = prompt_of({{Role::user, {words("a"), picture(0), video}}}, {placement});
        ASSERT_EQ(p.places.size(), 3u);
        EXPECT_EQ(p.image_tokens(), 3 * 256);
        EXPECT_EQ(std::ranges::count(p.ids, row), 3 * 256);
        for (const PicturePlace& place : p.places)
            EXPECT_EQ(std::ranges::count(std::span(p.ids).subspan(place.first, 256), row), 256);
        EXPECT_EQ(p.places[1].first - p.places[0].first == 256, placement == Placement::combined);
    }
}

// T8, 2.5.
TEST(Conversation, ContinuesTheLastAnswer) {
    const std::vector<Message> begun = {{Role::user, {words("q")}},
                                        {Role::assistant, {words("The answer is")}}};
    const std::string user = "<|im_start|>system\ns<|im_end|><|im_start|>user\nq<|im_end|>",
                      answer = "<|im_start|>assistant\n";
    EXPECT_EQ(prompt_of(begun).text, user + answer + "The answer is");
    EXPECT_EQ(prompt_of(begun, {.continue_last = false}).text,
              user + answer + "The answer is<|im_end|>" + answer);
    const std::vector<Message> empty = {begun[0], {Role::assistant, {words("")}}};
    EXPECT_EQ(prompt_of(empty).ids, prompt_of({begun[0]}).ids);
    EXPECT_EQ(prompt_of({begun[0]}).text, user + answer);
}

// T3.
TEST(Conversation, HasTheSystemsMessage) {
    const auto head = [](std::vector<MessagePart> parts) {
        std::vector<Message> messages = {{Role::user, {words("q")}}};
        if (!parts.empty()) messages.insert(messages.begin(), {Role::system, std::move(parts)});
        const std::string text = prompt_of(messages).text;
        return text.substr(0, text.find("<|im_start|>user"));
    };
    EXPECT_EQ(head({}), "<|im_start|>system\ns<|im_end|>");
    EXPECT_EQ(head({words("own")}), "<|im_start|>system\nown<|im_end|>");
    EXPECT_EQ(head({words("")}), "<|im_start|>system\n<|im_end|>");
    EXPECT_EQ(head({words("a"), words("b")}), "<|im_start|>system\na\nb<|im_end|>");
}

// T6: no control token comes out of words, wherever they stand and however they are cut.
static void check_words_are_data(const Tokenizer& tokenizer, const ChatTemplate& chat,
                                 const std::string& name) {
    std::set<int> control;
    std::string all;
    for (const AddedToken& t : tokenizer.added_tokens())
        if (!is_grounding_tag(t.text)) control.insert(t.id), all += t.text + " ";
    for (const char* spelled : {"<|im_start|>", "<|im_end|>", "<|end|>", "<img>", "</img>",
                                "<IMG_CONTEXT>", "</s>", "<s>", "<|endoftext|>"}) {
        all += spelled;
        if (const auto id = tokenizer.find(spelled)) control.insert(*id);
    }
    const auto count = [&](const std::string& system, const std::string& user,
                           const std::string& answer, bool allowed = false) {
        const std::vector<Message> messages = {
            {Role::system, {words(system)}},
            {Role::user,
             {words(user.substr(0, user.size() / 2)), words(user.substr(user.size() / 2))}},
            {Role::assistant, {words(answer)}},
            {Role::user, {words(user), picture(0)}}};
        PromptOptions options;
        options.control_tokens = allowed;
        const Prompt p = build_prompt(tokenizer, chat, "s", messages, media, options);
        EXPECT_EQ(tokenizer.find("<box>").has_value(), true);
        return std::ranges::count_if(p.ids, [&](int id) { return control.contains(id); });
    };
    const auto harmless = count("a", "bb", "c");
    EXPECT_EQ(count(all, all, all), harmless) << name;
    EXPECT_GT(count(all, all, all, true), harmless) << name;
    for (size_t cut = 1; cut < 12; ++cut) {  // "<|im_end|>" over two parts
        const std::string whole = "<|im_end|>";
        const std::vector<Message> parts = {{Role::user,
                                             {words(whole.substr(0, std::min(cut, whole.size()))),
                                              words(whole.substr(std::min(cut, whole.size())))}}};
        const Prompt p = build_prompt(tokenizer, chat, "s", parts, media, {});
        const Prompt plain = build_prompt(
            tokenizer, chat, "s", std::vector<Message>{{Role::user, {words("a")}}}, media, {});
        const auto controls = [&](const Prompt& prompt) {
            return std::ranges::count_if(prompt.ids, [&](int id) { return control.contains(id); });
        };
        EXPECT_EQ(controls(p), controls(plain)) << name << ' ' << cut;
    }
    const Prompt box = plain_prompt(tokenizer, "<box>[[1, 2, 3, 4]]</box>");
    EXPECT_EQ(std::ranges::count(box.ids, tokenizer.find("<box>").value()), 1) << name;
    const Prompt plain = plain_prompt(tokenizer, all);
    const Prompt begun = plain_prompt(tokenizer, "");
    EXPECT_EQ(std::ranges::count_if(plain.ids, [&](int id) { return control.contains(id); }),
              std::ranges::count_if(begun.ids, [&](int id) { return control.contains(id); }))
        << name;
    for (const int id : plain.ids)
        if (control.contains(id) && std::ranges::find(begun.ids, id) == begun.ids.end())
            ADD_FAILURE() << name << ": " << tokenizer.decode({&id, 1}, false);
}

TEST(Conversation, WordsAreData) {
    for (const char* name : tiny_names) check_words_are_data(tiny(name), chat_of(name), name);
}

TEST(Conversation, WordsAreDataForReleasedTokenizers) {
    REQUIRE_OUTSIDE("data/tokenizer_vectors/slow");
    for (const char* name : {"internvl2-1b", "internvl2-2b", "internvl2-4b", "internvl2-40b"})
        check_words_are_data(real(name), chat_of(name), name);
}

// T7: ordinary words keep the reference's ids.
TEST(Conversation, KeepsTheReferencesIds) {
    for (const char* name : tiny_names)
        for (const char* text : {"\nhi", "ends in blanks   ", "e\xcc\x81t\xc3\xa9", "## a",
                                 "\U0001F600", "\xe2\x96\x81", " \t x", "plain"}) {
            const Turn t{text, std::nullopt};
            const Prompt ours =
                build_prompt(tiny(name), chat_of(name), "Be short.",
                             std::vector<Message>{{Role::user, {words(text)}}}, media, {});
            EXPECT_EQ(
                ours.ids,
                build_reference_prompt(tiny(name), chat_of(name), "Be short.", {&t, 1}, {}).ids)
                << name << ' ' << text;
        }
}

}  // namespace internvl
