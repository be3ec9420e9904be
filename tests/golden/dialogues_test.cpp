// Every recorded dialogue, to the id.
#include "engine/step_loop.h"
#include "internvl/internvl.h"
#include "reference.h"

namespace internvl {

class Conversations : public Golden {};
INSTANTIATE_TEST_SUITE_P(Golden, Conversations, every_family, family_name);

TEST_P(Conversations, ChatToTheId) {
    int rounds = 0;
    for (const int threads : {1, 2})
        for (const auto& d : of.json()["dialogues"]) {
            if (d["kind"] != "chat" || (threads == 1 && !d["video"].empty())) continue;
            SCOPED_TRACE(d["name"].get<std::string>());
            const std::vector<Reply> replies = play(of.engine("fp32", threads), d);
            for (size_t i = 0; i < replies.size(); ++i, ++rounds) {
                const auto& call = d["calls"][i][0];
                EXPECT_EQ(replies[i].prompt.ids, expand_ids(call["input_ids"]));
                EXPECT_EQ(replies[i].ids, call["generated"].get<std::vector<int>>());
                EXPECT_EQ(replies[i].text, d["responses"][i].get<std::string>());
            }
        }
    EXPECT_GE(rounds, 2 * 15 + 2);
}

// What a listener of the reference hears, chunk by chunk, and what a listener of ours hears, joined
// (not stripped), but for Phi-3's end token, which the reference shows because it is not marked as
// special.
TEST_P(Conversations, StreamedText) {
    int streams = 0;
    Engine& e = of.engine();
    for (const auto& d : of.json()["dialogues"]) {
        if (d["kind"] != "stream") continue;
        std::vector<std::string> chunks;
        const std::vector<Reply> replies = play(e, d, [&](std::string_view piece) {
            chunks.emplace_back(piece);
            return true;
        });
        auto expected = d["responses"][0].get<std::string>();
        const std::string end = " " + e.chat_template().stop;
        const bool shows_end = expected.ends_with(end);
        if (shows_end) expected.resize(expected.size() - end.size());
        std::string heard;
        for (const std::string& c : chunks) heard += c;
        EXPECT_EQ(heard, expected) << d["name"];
        if (!shows_end) {
            std::vector<std::string> yielded = d["chunks"];
            std::erase(yielded, "");
            EXPECT_EQ(chunks, yielded) << d["name"];
        }
        std::string ours;
        AnswerText text(e.tokenizer(), AnswerTextOptions{}, [&](std::string_view piece) {
            ours += piece;
            return true;
        });
        for (const int id : replies[0].ids)
            if (id != e.stop_token()) text.push(id);
        text.finish();
        EXPECT_EQ(ours, expected) << d["name"];
        ++streams;
    }
    EXPECT_GE(streams, 2);
}

// The reference's batch_chat(): rows in step, rotary tables by the longest of them. It fills a row
// that has ended until all have.
TEST_P(Conversations, BatchChatToTheId) {
    Engine& e = of.engine();
    int rows = 0;
    for (const auto& d : of.json()["dialogues"]) {
        if (d["kind"] != "batch_chat") continue;
        SCOPED_TRACE(d["name"].get<std::string>());
        ReferenceRope rope(e.model().config.text);
        StepLoop loop(e, {.max_sequences = 8, .cache_tokens = 8192, .reference = &rope});
        std::vector<Picture> pictures = pictures_of(d);
        std::vector<Answer> answers(pictures.size());
        for (size_t i = 0; i < pictures.size(); ++i) {
            Session session(e, system_of(e, d), true);
            GenerateOptions options;
            options.max_new_tokens = d["max_new_tokens"];
            Task task = session.begin(d["questions"][i], {pictures[i]}, options, false, {});
            auto prompt = expand_ids(d["calls"][0][i]["input_ids"]);
            prompt.erase(prompt.begin(), prompt.begin() + d["calls"][0][i]["left_pads"].get<int>());
            EXPECT_EQ(task.prompt.ids, prompt);
            Session* const one = &session;
            Session::see(e, {&one, 1});
            task.generation.pictures = session.picture_rows();
            task.generation.on_end = [&answers, i](Answer a) { answers[i] = std::move(a); };
            loop.add(std::move(task.generation));
        }
        while (loop.step()) {
        }
        for (size_t i = 0; i < answers.size(); ++i, ++rows) {
            auto expected = d["calls"][0][i]["generated"].get<std::vector<int>>();
            expected.resize(d["calls"][0][i]["steps"].get<size_t>());
            EXPECT_EQ(answers[i].ids, expected) << "row " << i;
        }
    }
    EXPECT_EQ(rows, 5);
}

// api.md 6.2: the number of threads and the cut of the prompt do not change a bit of the answer.
TEST_P(Conversations, AnswersDoNotDependOnThreadsOrChunks) {
    using Types = std::pair<const char*, const char*>;
    for (const auto& [dtype, quant] : {Types("fp32", "none"),
                                       {"bf16", "none"},
                                       {"bf16", "int8"},
                                       {"bf16", "int4"},
                                       {"fp32", "int8"},
                                       {"fp32", "int4"}})
        for (const char* name : {"text_unicode", "image_3_tiles"}) {
            const auto& d = of.dialogue(name);
            Generation g;
            g.prompt = expand_ids(d["calls"][0][0]["input_ids"]);
            g.options.max_new_tokens = 8;
            std::vector<std::vector<uint32_t>> bits;
            for (const int threads : {1, 2})
                for (const int64_t chunk : {16, 64, 100000}) {
                    Engine& e = of.engine(dtype, threads, quant);
                    const std::vector<Picture> pictures = pictures_of(d);
                    g.pictures = pictures.empty() ? PictureRows() : e.encode(*pictures[0].tiles);
                    bits.emplace_back();
                    g.on_logits = [&](std::span<const float> logits) {
                        for (const float x : logits)
                            bits.back().push_back(std::bit_cast<uint32_t>(x));
                    };
                    e.generate(g, nullptr, chunk);
                }
            for (const auto& b : bits)
                EXPECT_EQ(b, bits[0]) << dtype << ' ' << quant << ' ' << name;
        }
}

// Company changes nothing: all dialogues' first questions together, a few at a time, against each
// alone.
TEST_P(Conversations, AnswersTogetherAreThoseAlone) {
    for (const char* dtype : {"fp32", "bf16"}) {
        Engine& e = of.engine(dtype);
        std::vector<Generation> all;
        for (const auto& d : of.json()["dialogues"]) {
            if (d["kind"] != "chat" || !d["video"].empty() || d["images"].size() > 1) continue;
            Generation g;
            g.prompt = expand_ids(d["calls"][0][0]["input_ids"]);
            const std::vector<Picture> pictures = pictures_of(d);
            if (!pictures.empty()) g.pictures = e.encode(*pictures[0].tiles);
            g.options.max_new_tokens = 4 + int(all.size());
            g.options.do_sample = all.size() % 2 == 1;
            all.push_back(std::move(g));
        }
        ASSERT_GE(all.size(), 8u);
        std::vector<std::vector<int>> together(all.size());
        StepLoop loop(e, {.max_sequences = 3, .cache_tokens = 6000, .chunk = 100});
        for (size_t i = 0; i < all.size(); ++i) {
            Generation g = all[i];
            g.on_end = [&together, i](Answer a) { together[i] = std::move(a.ids); };
            loop.add(std::move(g));
        }
        while (loop.step()) {
        }
        for (size_t i = 0; i < all.size(); ++i)
            EXPECT_EQ(together[i], e.generate(all[i]).ids) << dtype << ' ' << i;
    }
}

static std::vector<int> generated(Reference& of, const nlohmann::json& call, ReferenceRope* rope) {
    Generation g;
    g.prompt = expand_ids(call["input_ids"]);
    g.options.max_new_tokens = int(call["generated"].size());
    return of.engine().generate(g, rope).ids;
}

// Around the switch of the factor lists and beyond the rotary table: as one instance of the
// reference, whose enlarged base stays.
TEST(LongContext, AsTheReference) {
    int calls = 0;
    for (const char* name : {"tiny-2b", "tiny-4b"}) {
        Reference& of = reference(name);
        const TextConfig& text = of.engine().model().config.text;
        ReferenceRope rope(text);
        for (const auto& call : of.json()["long"]) {
            if (call.value("fresh_instance", true)) rope = ReferenceRope(text);
            EXPECT_EQ(generated(of, call, &rope), call["generated"].get<std::vector<int>>())
                << name << ' ' << call["tag"];
            ++calls;
        }
    }
    EXPECT_EQ(calls, 17);
}

// The default: each sequence by its own declared length, whatever came before it.
TEST(LongContext, EachSequenceByItself) {
    for (const char* name : {"tiny-2b", "tiny-4b"}) {
        Reference& of = reference(name);
        const TextConfig& text = of.engine().model().config.text;
        const int64_t limit = name[5] == '2' ? text.max_positions : text.rope.original_positions;
        int below = 0;
        std::map<std::string, std::vector<int>> first;
        for (const int pass : {0, 1})
            for (const auto& call : of.json()["long"]) {
                const std::vector<int> ids = generated(of, call, nullptr);
                const auto tag = call["tag"].get<std::string>();
                if (pass == 0) first[tag] = ids;
                EXPECT_EQ(ids, first[tag]) << name << ' ' << tag;
                const int64_t length = int64_t(expand_ids(call["input_ids"]).size()) +
                                       int64_t(call["generated"].size());
                if (length > limit || !call.value("fresh_instance", true)) continue;
                EXPECT_EQ(ids, call["generated"].get<std::vector<int>>()) << name << ' ' << tag;
                ++below;
            }
        EXPECT_GE(below, 2);
    }
}

// golden: what the card's chat() refuses, and what it lets pass.
TEST_P(Conversations, Misuse) {
    Engine& e = of.engine();
    int raised = 0, passed = 0;
    for (const auto& m : of.json()["misuse"]) {
        const std::string what = m["what"];
        if (!m.contains("call")) {
            ++raised;
            continue;
        }
        Generation g;
        const auto& call = m["call"][0];
        g.prompt = expand_ids(call["input_ids"]);
        const bool picture = std::ranges::count(g.prompt, e.context_token()) > 0;
        if (picture) g.pictures = e.encode(tiles_of("rgb_1tile.png", 12));
        g.options.max_new_tokens = int(call["generated"].size());
        EXPECT_EQ(e.generate(g).ids, call["generated"].get<std::vector<int>>()) << what;
        ++passed;
    }
    EXPECT_EQ(raised, 3);
    EXPECT_EQ(passed, 3);
    // Two entries, one mark: fewer places than rows.
    Session session(e, e.system_message(), true);
    const auto tiles = std::make_shared<Tiles>(tiles_of("rgb_1tile.png", 12));
    EXPECT_THROW(session.ask("<image>\nWhat?", {{tiles}, {tiles}}, {}, false), Error);
    EXPECT_TRUE(session.history().empty());
}

}  // namespace internvl
