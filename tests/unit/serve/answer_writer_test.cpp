#include "serve/answer_writer.h"

#include <cmath>
#include <random>

#include "support.h"
#include "text/utf8.h"
#include "unit/text/folders.h"

namespace internvl {

namespace {

const ChatTemplate& chat_of(const std::string& name) {
    return find_template(name == "tiny-4b"                         ? "phi3-chat"
                         : name == "tiny-2b" || name == "tiny-26b" ? "internlm2-chat"
                                                                   : "Hermes-2");
}

struct Written {
    std::string text, taken;  // whole, and in deltas
    std::vector<TokenLogprob> logprobs;
    std::vector<int> ids;
    bool stopped = false;
};

// All tokens through a writer, a delta taken after every `each`.
Written write(const std::string& name, std::span<const int> ids, const GenerateOptions& g,
              int top = 0, size_t each = 1) {
    const Tokenizer& tokenizer = tiny(name);
    AnswerWriter writer(tokenizer, chat_of(name), g, top);
    Written w;
    const auto take = [&] {
        Delta d = writer.take();
        w.taken += d.text;
        w.ids.insert(w.ids.end(), d.ids.begin(), d.ids.end());
        for (auto& p : d.logprobs) w.logprobs.push_back(std::move(p));
    };
    std::vector<float> logits(size_t(tokenizer.size()));
    for (size_t i = 0; i < ids.size(); ++i) {
        logits[size_t(ids[i])] = 3;
        writer.logits(logits);
        logits[size_t(ids[i])] = 0;
        if (!writer.push(ids[i])) break;
        if (i % each == 0) take();
    }
    w.stopped = writer.stopped();
    writer.finish();
    take();
    return w;
}

std::string joined(const std::vector<TokenLogprob>& tokens) {
    std::string bytes;
    for (const TokenLogprob& t : tokens)
        if (!t.chosen.dropped) bytes += t.chosen.bytes;
    return bytes;
}

std::vector<int> ids_of(const std::string& name, const std::string& text) {
    return tiny(name).encode(std::vector<Segment>{{Segment::Kind::plain, text}}, false);
}

}  // namespace

// P4, S1: in every family, for text of many scripts and for tokens at random.
TEST(AnswerWriter, BytesOfTokensAreTheText) {
    std::mt19937 random(7);
    for (const char* name : tiny_names) {
        const Tokenizer& tokenizer = tiny(name);
        std::vector<std::vector<int>> lists = {
            ids_of(name, "Hello, it's 你好 \U0001F600\U0001F468 naïve  ##  don't . ok ?")};
        // Two characters begun, in tiny-1b, and of the second the first byte like the mark's.
        lists.push_back({17, 171, 117, 160, 0, 0, 0, 0, 0, 0, 0, 0, 0, 662, 0, 27, 512});
        for (int i = 0; i < 300; ++i) {
            std::vector<int> list(40);
            for (int& id : list) id = int(random() % uint32_t(tokenizer.size()));
            lists.push_back(list);
        }
        for (const auto& ids : lists)
            for (const bool skip : {true, false}) {
                GenerateOptions g;
                g.skip_special_tokens = skip;
                const Written one = write(name, ids, g), all = write(name, ids, g, 0, 1000);
                EXPECT_EQ(one.taken, all.taken) << name;
                EXPECT_EQ(joined(one.logprobs), one.taken) << name;
                EXPECT_EQ(one.logprobs.size(), ids.size()) << name;
                EXPECT_EQ(one.ids, ids);
                EXPECT_TRUE(is_valid_utf8(one.taken));
            }
    }
}

// S3.
TEST(AnswerWriter, AnIncompleteCharacterIsOneMark) {
    for (const char* name : tiny_names) {
        std::vector<int> ids = ids_of(name, "a\U0001F9FF");
        if (ids.size() < 3) continue;  // one token holds it all
        ids.pop_back();
        EXPECT_EQ(write(name, ids, {}).taken.substr(0, 1), "a") << name;
        const std::string text = write(name, ids, {}).taken;
        EXPECT_TRUE(text.ends_with("\xef\xbf\xbd")) << name;
        EXPECT_EQ(text.find("\xef\xbf\xbd"), text.size() - 3) << name;
    }
}

// P8: tags of grounding.
TEST(AnswerWriter, KeepsTheTagsOfGroundingOnly) {
    for (const char* name : tiny_names) {
        const Tokenizer& tokenizer = tiny(name);
        std::vector<int> ids;
        const auto add = [&](const char* token) { ids.push_back(tokenizer.find(token).value()); };
        add("<ref>");
        for (const int id : ids_of(name, "dog")) ids.push_back(id);
        add("</ref>");
        add("<IMG_CONTEXT>");
        add("<box>");
        for (const int id : ids_of(name, "[[1,2,3,4]]")) ids.push_back(id);
        add("</box>");
        add(chat_of(name).stop.c_str());
        GenerateOptions g;
        const std::string plain = write(name, ids, g).taken;
        g.skip_special_tokens = false;
        const std::string tagged = write(name, ids, g).taken;
        for (const char* tag : {"<ref>", "</ref>", "<box>", "</box>"}) {
            EXPECT_EQ(plain.find(tag), plain.npos) << name;
            EXPECT_NE(tagged.find(tag), tagged.npos) << name << ' ' << tagged;
        }
        for (const std::string& text : {plain, tagged}) {
            EXPECT_EQ(text.find("IMG_CONTEXT"), text.npos) << name;
            EXPECT_EQ(text.find(chat_of(name).stop), text.npos) << name << ' ' << text;
        }
        AnswerWriter writer(tokenizer, chat_of(name), {}, -1);
        for (const int id : ids) writer.push(id);
        EXPECT_NE(writer.tagged_text().find("<box>"), std::string::npos);
    }
}

// P2.
TEST(AnswerWriter, StopsAreFoundAcrossTokens) {
    const auto stopped = [](const std::string& text, std::vector<std::string> stops,
                            bool include = false, int quiet = 0) {
        GenerateOptions g;
        g.stop = std::move(stops);
        g.include_stop = include;
        g.min_new_tokens = quiet;
        const Written w = write("tiny-1b", ids_of("tiny-1b", text), g);
        EXPECT_EQ(write("tiny-1b", ids_of("tiny-1b", text), g, 0, 1000).taken, w.taken);
        EXPECT_TRUE(joined(w.logprobs).starts_with(w.taken));
        return w.taken;
    };
    EXPECT_EQ(stopped("one two STOP three", {"STOP"}), "one two ");
    EXPECT_EQ(stopped("one two STOP three", {"STOP"}, true), "one two STOP");
    EXPECT_EQ(stopped("STOP", {"STOP"}), "");
    EXPECT_EQ(stopped("hello world", {"lo", "lo wor"}, true), "hello wor");
    EXPECT_EQ(stopped("hello wide", {"lo", "lo wor"}, true), "hello");
    EXPECT_EQ(stopped("hello", {"lo", "lo wor"}, true), "hello");  // no text follows
    EXPECT_EQ(stopped("xabcd", {"abc", "b"}), "x");
    EXPECT_EQ(stopped("xabd", {"abc", "b"}), "xa");
    EXPECT_EQ(stopped("你好世界", {"世"}), "你好");
    EXPECT_EQ(stopped("a STO", {"STOP"}), "a STO");
    EXPECT_EQ(stopped("a a a a b", {"a"}, false, 1000), "a a a a b");
}

TEST(AnswerWriter, TellsTheChancesOfTokens) {
    const Tokenizer& tokenizer = tiny("tiny-1b");
    GenerateOptions g;
    AnswerWriter writer(tokenizer, chat_of("tiny-1b"), g, 3);
    std::vector<float> logits(size_t(tokenizer.size()), -INFINITY);
    logits[10] = std::log(0.5f);
    logits[11] = logits[12] = std::log(0.25f);
    writer.logits(logits);
    writer.push(12);
    writer.logits(logits);
    writer.push(20);
    writer.finish();
    const Delta d = writer.take();
    ASSERT_EQ(d.logprobs.size(), 2u);
    EXPECT_NEAR(d.logprobs[0].chosen.logprob, std::log(0.25), 1e-6);
    ASSERT_EQ(d.logprobs[0].top.size(), 3u);
    EXPECT_NEAR(d.logprobs[0].top[0].logprob, std::log(0.5), 1e-6);
    EXPECT_EQ(d.logprobs[0].top[1].bytes, std::string(tokenizer.text_of(11, false).text));
    EXPECT_EQ(d.logprobs[1].chosen.logprob, -9999);
}

}  // namespace internvl
