// Many conversations through the library's face.
#include "internvl/internvl.h"
#include "support.h"

namespace internvl {

static Model& model(const std::string& name) {
    static std::map<std::string, Model> models;
    const auto found = models.find(name);
    if (found != models.end()) return found->second;
    LoadOptions options;
    options.dtype = "fp32";
    return models.emplace(name, Model(golden("checkpoints/" + name), options)).first->second;
}

static Photo photo(const std::string& file, int max_num) {
    ImageOptions options;
    options.max_num = max_num;
    return Photo::open(golden("media/" + file), options);
}

// The card's batch_chat(): strings out of strings. Phi-3 and InternLM2 look at the longest of all.
TEST(Dialogues, BatchChatOfTheReference) {
    for (const std::string name : {"tiny-2b", "tiny-4b"}) {
        const auto expected = read_json(golden("expected/" + name + ".json"));
        int batches = 0;
        for (const auto& d : expected["dialogues"]) {
            if (d["kind"] != "batch_chat") continue;
            std::vector<Dialogue> dialogues;
            for (size_t i = 0; i < d["questions"].size(); ++i) {
                Dialogue one;
                one.rounds.push_back(
                    {d["questions"][i], {photo(d["images"][i][0], d["images"][i][1])}});
                one.generate.max_new_tokens = d["max_new_tokens"];
                dialogues.push_back(one);
            }
            BatchOptions options;
            options.compat_reference = true;
            const std::vector<Result> results = answer_all(model(name), dialogues, options);
            for (size_t i = 0; i < results.size(); ++i)
                EXPECT_EQ(results[i].text, d["responses"][i].get<std::string>()) << name;
            ++batches;
        }
        EXPECT_EQ(batches, 2);
    }
}

// Rounds, videos, beams and sampling together are what they are alone.
TEST(Dialogues, TogetherAsAlone) {
    VideoOptions frames;
    frames.num_segments = 2;
    std::vector<Dialogue> dialogues(5);
    dialogues[0].rounds = {{"Hello"}};
    dialogues[1].rounds = {{"What?", {photo("rgb_1tile.png", 1)}, "A picture."}, {"Sure?"}};
    dialogues[2].rounds = {{"Why?", {Video::open(golden("media/clip_24fps.mp4"), frames)}}};
    dialogues[2].generate.num_beams = 2;
    dialogues[3].rounds = {{"How?"}};
    dialogues[3].generate.do_sample = true;
    dialogues[3].system = "Be brief.";
    dialogues[4].rounds = {{"Both?", {photo("gray.png", 1), photo("rgb_1tile.png", 1)}}};
    for (Dialogue& d : dialogues) d.generate.max_new_tokens = 6;
    BatchOptions options;
    options.max_sequences = 2;
    const std::vector<Result> together = answer_all(model("tiny-1b"), dialogues, options);
    for (size_t i = 0; i < dialogues.size(); ++i) {
        const Result alone = answer_all(model("tiny-1b"), {dialogues[i]})[0];
        EXPECT_EQ(together[i].ids, alone.ids) << i;
        EXPECT_EQ(together[i].prompt_ids, alone.prompt_ids) << i;
    }
}

// A second question costs no look at the picture, and no token that was read before; asked anew in
// another conversation, nothing but the last tokens.
TEST(Chats, NothingTwice) {
    const Model one("demo");
    const Photo picture = photo("rgb_3tiles.png", 12);
    GenerateOptions options;
    options.max_new_tokens = 8;
    for (const bool again : {false, true}) {
        Chat chat(one);
        const Result first = chat.ask("What is this?", {picture}, options);
        EXPECT_EQ(first.computed_tiles, again ? 0 : 3);
        const int known = int(first.prompt_ids.size() - 1) / 16 * 16;
        EXPECT_EQ(first.cached_tokens, again ? known : 0);
        const Result second = chat.ask("And where?", {}, options);
        EXPECT_EQ(second.computed_tiles, 0);
        // What was retokenised with the answer is read again.
        EXPECT_GE(second.cached_tokens, known);
        EXPECT_EQ(second.image_tokens, 3 * 256);
    }
}

// The cache belongs to one loop at a time; others do without, and all is given back.
TEST(Chats, WhileDialoguesAreUnfinished) {
    const Model one("demo");
    GenerateOptions options;
    options.max_new_tokens = 4;
    Dialogue d;
    d.rounds = {{"Tell me a story about nothing in particular, please."}};
    d.generate = options;
    std::vector<Result> results;
    const auto keep = [&](Result r, const std::string*) { results.push_back(std::move(r)); };
    Chat chat(one);
    {
        Dialogues left(one);
        left.add(d, keep);
        left.step();
        results.push_back(chat.ask(d.rounds[0].question, {}, options));
        EXPECT_EQ(results.back().cached_tokens, 0);
    }  // in the middle of its answer
    Dialogues many(one);
    for (int i = 0; i < 3; ++i) many.add(d, keep);
    while (many.step()) {
    }
    ASSERT_EQ(results.size(), 4u);
    for (const Result& r : results) EXPECT_EQ(r.ids, results[0].ids);
}

TEST(Dialogues, MistakesAreOfOneDialogueOnly) {
    Dialogues many(model("tiny-1b"));
    EXPECT_THROW(many.add({}, {}), std::runtime_error);
    Dialogue bad;
    bad.rounds = {{"x"}};
    bad.generate.temperature = 0;
    bad.generate.do_sample = true;
    EXPECT_THROW(many.add(bad, {}), std::runtime_error);
    EXPECT_EQ(many.unfinished(), 0);
    Dialogue good;
    good.rounds = {{"x"}};
    good.generate.max_new_tokens = 2;
    int answered = 0;
    many.add(good, [&](const Result& r, const std::string* error) {
        EXPECT_EQ(error, nullptr);
        EXPECT_LE(r.ids.size(), 2u);
        ++answered;
    });
    while (many.step()) {
    }
    EXPECT_EQ(answered, 1);
    BatchOptions reference;
    reference.compat_reference = true;
    Dialogue history;
    history.rounds = {{"a", {}, "b"}, {"c"}};
    EXPECT_THROW(answer_all(model("tiny-1b"), {history}, reference), std::runtime_error);
}

// A picture's tiles are cut down until all fit.
TEST(Photos, ShareABudgetOfTiles) {
    const std::vector<std::string> files = {golden("media/rgb_5tiles.png"),
                                            golden("media/thirteen_tiles.jpg"),
                                            golden("media/rgb_1tile.png")};
    const std::vector<ImageOptions> options(3);
    for (const int total : {3, 4, 7, 12, 100}) {
        int tiles = 0;
        for (const Photo& p : Photo::open_all(files, options, total)) tiles += p.tiles();
        EXPECT_LE(tiles, total);
    }
    EXPECT_THROW(Photo::open_all(files, options, 2), std::runtime_error);
}

}  // namespace internvl
