#include "text/tokenizer.h"

#include "base/error.h"
#include "folders.h"
#include "text/piece_bpe.h"
#include "tokenizer_json_text.h"

namespace internvl {

using Vectors = std::vector<std::pair<const char*, std::vector<int>>>;

// `start` ids stand before those of the table.
static void compare(const Tokenizer& t, const Vectors& vectors, const std::vector<int>& start) {
    for (const auto& [text, ids] : vectors) {
        std::vector<int> expected = start;
        expected.insert(expected.end(), ids.begin(), ids.end());
        EXPECT_EQ(t.encode(text), expected) << text;
    }
}

TEST(SpecVectors, Qwen2) {
    REQUIRE_OUTSIDE("data/tokenizers/internvl2-1b");
    const Tokenizer& t = real("internvl2-1b");
    compare(t,
            {
                {"system\n", {8948, 198}},
                {"\n\n", {271}},
                {" hello", {23811}},
                {"  ", {256}},
                {"Hello, who are you?", {9707, 11, 879, 525, 498, 30}},
                {"\xF0\x9F\x98\x80", {141334}},
                {"e\xCC\x81", {963}},
                {"[[100, 200, 500, 800]]", {15505, 16, 15, 15, 11, 220, 17, 15, 15, 11,
                                            220,   20, 15, 15, 11, 220, 23, 15, 15, 5053}},
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
            },
            {});
    EXPECT_EQ(t.find("<IMG_CONTEXT>"), 151648);
    EXPECT_EQ(t.size(), 151655);
}

TEST(SpecVectors, InternLM2) {
    REQUIRE_OUTSIDE("data/tokenizers/internvl2-2b");
    const Tokenizer& t = real("internvl2-2b");
    compare(t,
            {
                {"system\n", {9081, 364}},
                {"user\n", {1008, 364}},
                {"assistant\n", {525, 11353, 364}},
                {"\n", {364}},
                {"\n\n", {402}},
                {" ", {262}},
                {"  ", {387}},
                {"hello", {15115}},
                {" hello", {24176}},
                {"\xE2\x96\x81x", {991}},
                {"Hello, who are you?", {9843, 328, 1015, 657, 629, 345}},
                {"Please describe the image shortly.", {5658, 7654, 410, 2321, 19789, 281}},
                {"你好", {77230}},
                {"\xF0\x9F\x98\x80", {243, 162, 155, 131}},
                {"\xC3\xA9", {63000}},
                {"e\xCC\x81", {261, 64180}},
                {"[[100, 200, 500, 800]]",
                 {15633, 1166, 328, 262, 1174, 328, 262, 2731, 328, 262, 4786, 5215}},
                {"Frame1: ", {4529, 312, 334, 262}},
                {"Image-1: ", {2056, 285, 312, 334, 262}},
                {"don't 12345", {15132, 1082, 262, 4575, 1889}},
                {"a\tb", {264, 2383}},
                {"Render a clear and concise summary of the photo.",
                 {6901, 395, 2961, 454, 3690, 1206, 12279, 446, 410, 6704, 281}},
            },
            {1});
    EXPECT_EQ(t.find("<IMG_CONTEXT>"), 92546);
    EXPECT_EQ(t.find("<|im_end|>"), 92542);
    EXPECT_EQ(t.size(), 92553);
    // The reference cleans up what it decodes, whatever the flag says.
    EXPECT_EQ(t.decode(t.encode("I do n't know , he 's here ."), true), "I don't know, he's here.");
}

TEST(SpecVectors, Phi3) {
    REQUIRE_OUTSIDE("data/tokenizers/llama2");
    const Tokenizer& t = real("internvl2-4b");
    EXPECT_EQ(t.find("<IMG_CONTEXT>"), 32013);
    EXPECT_EQ(t.find("<|end|>"), 32007);
    EXPECT_EQ(t.size(), 32020);
    const std::vector<int> swallowed = t.encode("<|user|> \n\t hi");
    EXPECT_EQ(swallowed, t.encode("<|user|>hi"));
}

// With the released flags <|system|> is no special token, so that the first blank stays.
TEST(SpecVectors, Phi3KeepsTheFirstBlank) {
    const Tokenizer& t = tiny("tiny-4b");
    const std::vector<int> ids = t.encode("<|system|>\nhi");
    EXPECT_EQ(ids[1], *t.find("\xE2\x96\x81"));
    EXPECT_EQ(ids[2], *t.find("<|system|>"));
    EXPECT_EQ(t.encode("<s>hi")[1], 1);  // before a special token it goes
    EXPECT_TRUE(t.decode(ids, true).find("<|system|>") != std::string::npos);
}

TEST(SpecVectors, Yi) {
    REQUIRE_OUTSIDE("data/tokenizers/yi-34b");
    const Tokenizer& t = real("internvl2-40b");
    EXPECT_EQ(t.find("<img>"), 68);
    EXPECT_EQ(t.find("</img>"), 70);
    EXPECT_EQ(t.find("<IMG_CONTEXT>"), 64000);
    EXPECT_EQ(t.find("<|im_end|>"), 7);
    EXPECT_EQ(t.size(), 64007);
    EXPECT_EQ(t.decode(t.encode("a <|im_end|> b"), false), " a <|im_end|> b");
    for (const int id : t.encode_plain("<|im_end|><img></img>")) EXPECT_GT(id, 70);
    // Without the image tokens, and none of the pieces listed as added.
    const Tokenizer base = Tokenizer::load(
        [](const std::string& name) -> std::optional<std::string> {
            if (name == "tokenizer_config.json")
                return R"({"tokenizer_class": "LlamaTokenizer", "add_bos_token": false})";
            return name == "tokenizer.model"
                       ? std::optional(read_text(outside("data/tokenizers/yi-34b/" + name)))
                       : std::nullopt;
        },
        "yi-34b");
    EXPECT_EQ(base.find("<|im_end|>"), 7);
    EXPECT_EQ(base.size(), 64000);
}

// Files of a tiny checkpoint, one of them replaced.
static Tokenizer load_with(const std::string& checkpoint, const std::string& name,
                           const std::optional<std::string>& text) {
    const auto files = folder_reader({golden("checkpoints/" + checkpoint)});
    return Tokenizer::load(
        [&](const std::string& file) { return file == name ? text : files(file); }, "test");
}

TEST(Tokenizer, TwoFilesComeBeforeTokenizerJson) {
    const auto files = folder_reader({golden("checkpoints/tiny-1b")});
    const Tokenizer t = Tokenizer::load(
        [&](const std::string& file) {
            return file == "tokenizer.json" ? std::optional<std::string>("broken") : files(file);
        },
        "test");
    EXPECT_EQ(t.encode("##"), tiny("tiny-1b").encode("##"));
}

TEST(Tokenizer, SpecialTokensWithoutAnId) {
    // The start token is a piece of the model and listed nowhere else; one token is new, and so are
    // six that only special_tokens_map.json names now.
    const Tokenizer t = load_with("tiny-2b", "tokenizer_config.json",
                                  R"({"tokenizer_class": "InternLM2Tokenizer",
                                      "additional_special_tokens": ["<new>"]})");
    EXPECT_EQ(t.encode("<s>"), (std::vector<int>{1, 1}));
    EXPECT_EQ(t.find("<new>"), 909);
    EXPECT_EQ(t.size(), 916);
    EXPECT_EQ(t.decode(std::vector<int>{1, 909}, true), "");
}

TEST(Tokenizer, MalformedFilesAreErrors) {
    const auto refuses = [](const char* checkpoint, const char* name,
                            const std::optional<std::string>& text) {
        EXPECT_THROW(load_with(checkpoint, name, text), Error) << name << ": " << text.value_or("");
    };
    refuses("tiny-1b", "vocab.json", "{");
    refuses("tiny-1b", "vocab.json", "[]");
    refuses("tiny-1b", "vocab.json", R"({"a":0,"b":0})");
    refuses("tiny-1b", "vocab.json", R"({"a":-1})");
    refuses("tiny-1b", "merges.txt", std::nullopt);
    refuses("tiny-1b", "merges.txt", "a b c\n");
    refuses("tiny-1b", "merges.txt", "nosuch piece\n");
    refuses("tiny-1b", "added_tokens.json", R"({"x":99999999999})");
    refuses("tiny-1b", "tokenizer_config.json",
            R"({"added_tokens_decoder":{"x":{"content":"y"}}})");
    refuses("tiny-1b", "tokenizer_config.json", R"({"tokenizer_class":"GPT2Tokenizer"})");
    refuses("tiny-2b", "tokenizer.model", std::nullopt);
    refuses("tiny-2b", "tokenizer.model", "");
    refuses("tiny-2b", "tokenizer.model", "\x0a\xff\xff\xff\xff\xff");
    const std::string model = read_text(golden("checkpoints/tiny-2b/tokenizer.model"));
    refuses("tiny-2b", "tokenizer.model", model.substr(0, model.size() / 2));
    // A later value wins: remove_extra_whitespaces, a unigram model.
    refuses("tiny-2b", "tokenizer.model", model + std::string("\x1a\x02\x20\x01", 4));
    refuses("tiny-2b", "tokenizer.model", model + std::string("\x12\x02\x18\x01", 4));
    EXPECT_THROW(Tokenizer::load([](const std::string&) { return std::nullopt; }, "nowhere"),
                 Error);
}

// The parts of tiny-76b's file that differ are refused by name.
TEST(Tokenizer, UnknownPartsOfTokenizerJsonAreNamed) {
    const std::string file = read_text(golden("checkpoints/tiny-76b/tokenizer.json"));
    const auto refusal = [&](const std::string& from, const std::string& to) -> std::string {
        std::string changed = file;
        const size_t at = changed.find(from);
        if (at == changed.npos) return "no " + from;
        changed.replace(at, from.size(), to);
        try {
            load_with("tiny-76b", "tokenizer.json", changed);
        } catch (const Error& error) {
            return error.what();
        }
        return "accepted";
    };
    const auto names = [](const std::string& text, const char* word) {
        return text.find(word) != text.npos;
    };
    EXPECT_PRED2(names, refusal("{1,3}", "{1,4}"), "pattern");
    EXPECT_PRED2(names, refusal("\"normalizer\": null", R"("normalizer": {"type": "NFKC"})"),
                 "NFKC");
    EXPECT_PRED2(names, refusal("\"TemplateProcessing\"", "\"RobertaProcessing\""),
                 "RobertaProcessing");
    EXPECT_PRED2(names, refusal("\"byte_fallback\": false", "\"byte_fallback\": true"),
                 "byte_fallback");
    EXPECT_PRED2(names, refusal("\"type\": \"BPE\"", "\"type\": \"Unigram\""), "Unigram");
    EXPECT_PRED2(names, refusal("       702", "       70200"), "outside the vocabulary");
    EXPECT_PRED2(names, refusal("\"vocab\": {", "\"vocab\": ["), "");
    EXPECT_EQ(refusal("\"version\"", "\"version\""), "accepted");
}

}  // namespace internvl
