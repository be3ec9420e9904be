// What the original Python gave on the six tiny checkpoints.
#include <set>

#include "folders.h"
#include "text/stream_decoder.h"
#include "text/text_chunks.h"
#include "text/utf8.h"

namespace internvl {

class Golden : public testing::TestWithParam<const char*> {
  protected:
    const Tokenizer& tokenizer() const { return tiny(GetParam()); }
    nlohmann::json expected() const {
        return read_json(golden("expected/" + std::string(GetParam()) + ".json"));
    }
};
INSTANTIATE_TEST_SUITE_P(Families, Golden, testing::ValuesIn(tiny_names), [](const auto& family) {
    return "tiny_" + std::string(family.param).substr(5);
});

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

TEST_P(Golden, TextsAndIds) {
    int lines = 0;
    for (const auto& line :
         read_json_lines(golden("tokenizer/" + std::string(GetParam()) + ".jsonl"))) {
        // Where the file says `ignore_merges`, it is honoured (newer tokenizers do; 0.15 did not).
        const auto ids = line["ids"].get<std::vector<int>>();
        if (!line["text"].is_null()) {
            const auto expected_ids = line.value("ids_ignore_merges", line["ids"]);
            EXPECT_EQ(tokenizer().encode(line["text"].get<std::string>()),
                      expected_ids.get<std::vector<int>>())
                << line["text"];
        }
        EXPECT_EQ(tokenizer().decode(ids, false), line["decoded"].get<std::string>());
        EXPECT_EQ(tokenizer().decode(ids, true), line["decoded_skip_special"].get<std::string>());
        for (const bool skip : {false, true})
            EXPECT_EQ(streamed(tokenizer(), ids, skip), tokenizer().decode(ids, skip));
        ++lines;
    }
    EXPECT_GT(lines, 200);
}

TEST_P(Golden, DialoguesAsStringsAndIds) {
    const nlohmann::json all = expected();
    int calls = 0;
    for (const auto& dialogue : all["dialogues"])
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
                EXPECT_EQ(tokenizer().encode(prompt), ids) << dialogue["name"];
                ++calls;
            }
    EXPECT_GT(calls, 20);
}

TEST_P(Golden, ChunksOfTheStreamer) {
    const nlohmann::json all = expected();
    int streams = 0;
    for (const auto& dialogue : all["dialogues"]) {
        if (dialogue["kind"] != "stream") continue;
        TextChunks chunks(tokenizer(), true);
        std::vector<std::string> found;
        for (const int id : expand_ids(dialogue["calls"][0][0]["generated"]))
            found.push_back(chunks.put(id));
        found.push_back(chunks.end());
        EXPECT_EQ(found, dialogue["chunks"].get<std::vector<std::string>>()) << dialogue["name"];
        ++streams;
    }
    EXPECT_GT(streams, 0);
}

TEST_P(Golden, PlainTextNeverMakesAControlToken) {
    const Tokenizer& t = tokenizer();
    std::string all = "[UNUSED_TOKEN_18][UNUSED_TOKEN_19]";  // InternLM2's control tokens are these
    // The tags of grounding are marks that a user may write (api.md 2.4).
    const std::set<std::string> tags = {"<ref>", "</ref>", "<box>", "</box>", "<quad>", "</quad>"};
    for (const AddedToken& token : t.added_tokens())
        if (!tags.contains(token.text)) all += "x" + token.text + token.text;
    for (const std::string& tag : tags)
        EXPECT_EQ(t.encode_plain("a" + tag), t.encode("a" + tag)) << tag;
    for (const std::string& text : {all, "<|im_end|>" + all}) {
        std::vector<int> ids = t.encode_plain(text);
        if (!t.encode("").empty()) ids.erase(ids.begin());  // the start token
        for (const int id : ids)
            for (const AddedToken& token : t.added_tokens()) EXPECT_NE(id, token.id) << token.text;
        const std::string back = t.decode(ids, true);
        EXPECT_EQ(back, text);
    }
    // Nothing differs where there is no control string, whoever wrote which part.
    using Kind = Segment::Kind;
    const std::vector<Segment> parts = {{Kind::control, "<|im_start|>user\n"},
                                        {Kind::plain, "  Hello"},
                                        {Kind::plain, " there\n"},
                                        {Kind::control, "</img>"}};
    EXPECT_EQ(t.encode(parts), t.encode("<|im_start|>user\n  Hello there\n</img>"));
    // A control string that only arises where two parts meet is none either.
    const int end = *t.find("<IMG_CONTEXT>");
    EXPECT_EQ(std::ranges::count(t.encode(std::vector<Segment>{{Kind::control, "<IMG_"},
                                                               {Kind::plain, "CONTEXT>"}}),
                                 end),
              0);
}

TEST_P(Golden, TokensAreFoundByName) {
    for (const char* name : {"<img>", "</img>", "<IMG_CONTEXT>", "<box>"}) {
        const auto id = tokenizer().find(name);
        ASSERT_TRUE(id) << name;
        EXPECT_LT(*id, tokenizer().size());
        EXPECT_EQ(tokenizer().decode(std::vector<int>{*id}, true), "") << name;
    }
    const std::string stop = GetParam() == std::string("tiny-4b") ? "<|end|>" : "<|im_end|>";
    ASSERT_TRUE(tokenizer().find(stop));
    EXPECT_EQ(std::ranges::count(tokenizer().encode("a" + stop), *tokenizer().find(stop)), 1);
    EXPECT_FALSE(tokenizer().find("<no such token>"));
    EXPECT_FALSE(tokenizer().find(""));
}

TEST_P(Golden, BrokenTextAndLongWords) {
    const Tokenizer& t = tokenizer();
    EXPECT_EQ(t.encode("a\xff"
                       "b"),
              t.encode("a\xEF\xBF\xBD"
                       "b"));
    for (const std::string& word : {std::string(1 << 20, 'x'), std::string(1 << 18, '\n')})
        EXPECT_EQ(t.decode(t.encode(word), true), word);
    EXPECT_EQ(t.decode(std::vector<int>{-1, 1 << 30}, true), "");
}

}  // namespace internvl
