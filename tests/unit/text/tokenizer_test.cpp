#include "text/tokenizer.h"

#include "base/digest.h"
#include "base/error.h"
#include "support.h"
#include "text/chat_template.h"
#include "text/stream_decoder.h"
#include "text/utf8.h"

namespace internvl {

static Tokenizer::ReadFile folder_reader(const std::string& folder) {
    return [folder](const std::string& name) -> std::optional<std::string> {
        if (!std::filesystem::exists(folder + "/" + name)) return std::nullopt;
        return read_text(folder + "/" + name);
    };
}

static const Tokenizer& tiny() {
    static const Tokenizer t = Tokenizer::load(folder_reader(golden("checkpoints/tiny-1b")),
                                               "tests/golden/checkpoints/tiny-1b");
    return t;
}

static const Tokenizer& real() {
    static const Tokenizer t =
        Tokenizer::load(folder_reader(outside("data/tokenizers/internvl2-1b")), "internvl2-1b");
    return t;
}

static std::string streamed(const Tokenizer& t, const std::vector<int>& ids, bool skip) {
    StreamDecoder stream(t, skip);
    std::string all;
    for (const int id : ids) {
        const std::string piece = stream.push(id);
        EXPECT_TRUE(is_valid_utf8(piece));
        all += piece;
    }
    return all + stream.finish();
}

TEST(Tokenizer, GoldenVectors) {
    int lines = 0;
    for (const auto& line : read_json_lines(golden("tokenizer/tiny-1b.jsonl"))) {
        const auto ids = line["ids"].get<std::vector<int>>();
        if (!line["text"].is_null()) {
            EXPECT_EQ(tiny().encode(line["text"].get<std::string>()), ids) << line["text"];
        }
        EXPECT_EQ(tiny().decode(ids, false), line["decoded"].get<std::string>());
        EXPECT_EQ(tiny().decode(ids, true), line["decoded_skip_special"].get<std::string>());
        EXPECT_EQ(streamed(tiny(), ids, true), tiny().decode(ids, true));
        ++lines;
    }
    EXPECT_GT(lines, 200);
}

TEST(Tokenizer, GoldenDialoguesAsStringsAndIds) {
    const auto expected = read_json(golden("expected/tiny-1b.json"));
    int calls = 0;
    for (const auto& dialogue : expected["dialogues"])
        for (const auto& call : dialogue["calls"])
            for (const auto& row : call) {
                std::string prompt =
                    row["prompt"];  // a run of context tokens is written <IMG_CONTEXT*n>
                for (size_t at; (at = prompt.find("<IMG_CONTEXT*")) != prompt.npos;) {
                    const size_t end = prompt.find('>', at);
                    const int n = std::stoi(prompt.substr(at + 13, end - at - 13));
                    std::string run;
                    for (int i = 0; i < n; ++i) run += "<IMG_CONTEXT>";
                    prompt.replace(at, end + 1 - at, run);
                }
                std::vector<int> ids = expand_ids(row["input_ids"]);
                ids.erase(ids.begin(), ids.begin() + row.value("left_pads", 0));
                EXPECT_EQ(tiny().encode(prompt), ids) << dialogue["name"];
                ++calls;
            }
    EXPECT_GT(calls, 20);
}

TEST(Tokenizer, SpecVectors) {
    REQUIRE_OUTSIDE("data/tokenizers/internvl2-1b");
    const std::pair<const char*, std::vector<int>> vectors[] = {
        {"system\n", {8948, 198}},
        {"\n\n", {271}},
        {" hello", {23811}},
        {"  ", {256}},
        {"Hello, who are you?", {9707, 11, 879, 525, 498, 30}},
        {"\xF0\x9F\x98\x80", {141334}},
        {"e\xCC\x81", {963}},
        {"[[100, 200, 500, 800]]",
         {15505, 16, 15, 15, 11, 220, 17, 15, 15, 11, 220, 20, 15, 15, 11, 220, 23, 15, 15, 5053}},
        {"don't 12345", {15007, 944, 220, 16, 17, 18, 19, 20}},
        {"DON'T", {84641, 17323}},
        {"   x", {256, 856}},
        {"x   ", {87, 262}},
        {"a  \n b", {64, 2303, 293}},
        {"\xE3\x80\x80全角", {22441, 35987, 63836}},
        {"## Title", {2, 2, 10869}},  // the # trap: Qwen2 itself has 565 here
        {" ##", {671, 2}},
        {"###", {2, 2, 2}},
        {"#include", {2, 997}},
        {"a##b", {64, 2, 2, 65}},
        {"!", {0}},
    };
    for (const auto& [text, ids] : vectors) EXPECT_EQ(real().encode(text), ids) << text;
    EXPECT_EQ(real().find("<IMG_CONTEXT>"), 151648);
    EXPECT_EQ(real().size(), 151655);
}

TEST(Tokenizer, ReferenceVectors) {
    REQUIRE_OUTSIDE("data/tokenizer_vectors/ref/internvl2-1b.jsonl");
    const auto corpus = read_json_lines(outside("data/tokenizer_vectors/corpus.jsonl"));
    int short_texts = 0, long_texts = 0;
    for (const auto& line :
         read_json_lines(outside("data/tokenizer_vectors/ref/internvl2-1b.jsonl"))) {
        if (line.contains("i")) {
            const std::string text = corpus[line["i"].get<size_t>()]["text"];
            EXPECT_EQ(real().encode(text), line["ids"].get<std::vector<int>>()) << text;
            ++short_texts;
        } else if (line.contains("long")) {
            const std::string name = line["long"];
            const std::vector<int> ids =
                real().encode(read_text(outside("data/tokenizer_vectors/long/" + name + ".txt")));
            EXPECT_EQ(ids.size(), line["n"].get<size_t>()) << name;
            EXPECT_EQ(sha256_hex(ids.data(), ids.size() * sizeof(int)), line["sha256_u32le"])
                << name;
            ++long_texts;
        }
    }
    EXPECT_EQ(short_texts, 506);
    EXPECT_EQ(long_texts, 6);
}

TEST(Tokenizer, SlowClassVectors) {
    REQUIRE_OUTSIDE("data/tokenizer_vectors/slow/internvl2-1b.jsonl");
    int compared = 0;
    for (const auto& line :
         read_json_lines(outside("data/tokenizer_vectors/slow/internvl2-1b.jsonl"))) {
        if (!line.contains("ids")) continue;
        const auto ids = line["ids"].get<std::vector<int>>();
        EXPECT_EQ(real().encode(line["text"].get<std::string>()), ids) << line["text"];
        EXPECT_EQ(real().decode(ids, true), line["decoded"].get<std::string>());
        EXPECT_EQ(real().decode(ids, false), line["decoded_with_specials"].get<std::string>());
        EXPECT_EQ(streamed(real(), ids, false), real().decode(ids, false));
        ++compared;
    }
    EXPECT_GE(compared, 400);
}

TEST(Tokenizer, PlainTextKeepsControlStringsOrdinary) {
    const int end = *tiny().find("<|im_end|>");
    const std::string text = "a<|im_end|>b";
    EXPECT_EQ(std::ranges::count(tiny().encode(text), end), 1);
    EXPECT_EQ(std::ranges::count(tiny().encode_plain(text), end), 0);
    EXPECT_EQ(tiny().decode(tiny().encode_plain(text), true), text);
    // Without control strings nothing differs, whoever wrote which part.
    using Kind = Segment::Kind;
    const std::vector<Segment> parts = {{Kind::control, "<|im_start|>user\n"},
                                        {Kind::plain, "  Hello"},
                                        {Kind::plain, " there\n"},
                                        {Kind::control, "<|im_end|>"}};
    EXPECT_EQ(tiny().encode(parts), tiny().encode("<|im_start|>user\n  Hello there\n<|im_end|>"));
    // A control string that only arises where two parts meet is none either.
    EXPECT_EQ(std::ranges::count(tiny().encode(std::vector<Segment>{{Kind::control, "<|im_"},
                                                                    {Kind::plain, "end|>"}}),
                                 end),
              0);
}

TEST(Tokenizer, BrokenTextAndLongWords) {
    EXPECT_EQ(tiny().encode("a\xff"
                            "b"),
              tiny().encode("a\xEF\xBF\xBD"
                            "b"));
    const std::string word(1 << 20, 'x');
    EXPECT_EQ(tiny().decode(tiny().encode(word), true), word);
    EXPECT_EQ(tiny().decode(std::vector<int>{-1, 1 << 30}, true), "");
}

TEST(Tokenizer, MalformedFilesAreErrors) {
    const auto load_with = [](const std::string& name, const std::string& text) {
        const auto files = folder_reader(golden("checkpoints/tiny-1b"));
        return Tokenizer::load(
            [&](const std::string& file) {
                return file == name ? std::optional(text) : files(file);
            },
            "test");
    };
    EXPECT_THROW(load_with("vocab.json", "{"), Error);
    EXPECT_THROW(load_with("vocab.json", "[]"), Error);
    EXPECT_THROW(load_with("vocab.json", R"({"a":0,"b":0})"), Error);
    EXPECT_THROW(load_with("vocab.json", R"({"a":-1})"), Error);
    EXPECT_THROW(load_with("merges.txt", "a b c\n"), Error);
    EXPECT_THROW(load_with("merges.txt", "nosuch piece\n"), Error);
    EXPECT_THROW(load_with("added_tokens.json", R"({"x":99999999999})"), Error);
    EXPECT_THROW(
        load_with("tokenizer_config.json", R"({"added_tokens_decoder":{"x":{"content":"y"}}})"),
        Error);
    EXPECT_THROW(Tokenizer::load([](const std::string&) { return std::nullopt; }, "nowhere"),
                 Error);
}

TEST(ChatTemplate, SpecVectors) {
    const ChatTemplate& hermes = find_template("Hermes-2");
    const Turn turns[] = {{"<image>\nhi", "yo"}, {"ok?", std::nullopt}};
    const std::string text = render(hermes, hermes.default_system, turns);
    size_t points = 0;
    for (const char c : text) points += (uint8_t(c) & 0xc0) != 0x80;
    EXPECT_EQ(points, 211u);  // spec 6.1
    EXPECT_TRUE(text.ends_with("<|im_end|><|im_start|>user\nok?<|im_end|><|im_start|>assistant\n"));
    const Turn empty[] = {{"", std::nullopt}};
    EXPECT_EQ(render(hermes, "s", empty),
              "<|im_start|>system\ns<|im_end|><|im_start|>user\n<|im_start|>assistant\n");
    EXPECT_THROW(find_template("vicuna"), Error);
}

TEST(ChatTemplate, PicturesReplaceMarksInOrder) {
    const int two[] = {1, 2};
    EXPECT_EQ(expand_images("<image> <image> <image>", two, 1),
              "<img><IMG_CONTEXT></img> <img><IMG_CONTEXT><IMG_CONTEXT></img> <image>");
    EXPECT_EQ(expand_images("none", two, 1), "none");
}

TEST(Utf8, StripsAsPythonDoes) {
    EXPECT_EQ(strip(" \t\xE3\x80\x80 x y \x1f\n"), "x y");
    EXPECT_EQ(strip("\xE3\x80\x80"), "");
    EXPECT_EQ(incomplete_tail("a\xe4\xbd"), 2u);
    EXPECT_EQ(incomplete_tail("a\xe4\xbd\xa0"), 0u);
    EXPECT_EQ(incomplete_tail("\xe4 "), 0u);
    EXPECT_EQ(replace_invalid("\xe4\xbd"
                              "a\xff"),
              "\xEF\xBF\xBD"
              "a\xEF\xBF\xBD");
}

}  // namespace internvl
