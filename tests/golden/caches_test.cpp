// Nothing is computed twice, and nobody can tell: what caches give is what is computed anew, to the
// bit (docs/numerics.md).
#include "engine/step_loop.h"
#include "model/memory.h"
#include "reference.h"

namespace internvl {

using Bits = std::vector<std::vector<float>>;  // logits before each choice

struct Heard {
    Answer answer;
    Bits logits;
};

static Generation generation(const std::vector<int>& prompt, const PictureRows& pictures,
                             int tokens, Heard& heard) {
    Generation g;
    g.prompt = prompt;
    g.pictures = pictures;
    g.options.max_new_tokens = tokens;
    g.options.ignore_eos = true;  // blocks of generated tokens, too
    g.on_logits = [&heard](std::span<const float> l) {
        heard.logits.emplace_back(l.begin(), l.end());
    };
    return g;
}

static Heard generate(Engine& e, const std::vector<int>& prompt, const PictureRows& pictures,
                      int tokens) {
    Heard heard;
    heard.answer = e.generate(generation(prompt, pictures, tokens, heard));
    return heard;
}

static void expect_same(const Heard& got, const Heard& expected) {
    EXPECT_EQ(got.answer.ids, expected.answer.ids);
    ASSERT_EQ(got.logits.size(), expected.logits.size());
    for (size_t i = 0; i < got.logits.size(); ++i)
        EXPECT_EQ(std::memcmp(got.logits[i].data(), expected.logits[i].data(),
                              got.logits[i].size() * sizeof(float)),
                  0)
            << "choice " << i;
}

static std::unique_ptr<Engine> load(const std::string& name, LoadOptions options) {
    return std::make_unique<Engine>(ModelFolder::open(golden("checkpoints/" + name)), options);
}

class Caches : public Golden {
  protected:
    // A dialogue of two rounds about a picture: the second goes on from the first's ids.
    struct Script {
        Tiles tiles;
        std::vector<int> first, second;
    };
    static constexpr int tokens = 24;

    Script script(Engine& cold) {
        Script s{tiles_of("rgb_3tiles.png", 12), {}, {}};
        s.first = expand_ids(of.dialogue("image_3_tiles")["calls"][0][0]["input_ids"]);
        s.second = s.first;
        const Answer answer = generate(cold, s.first, cold.encode(s.tiles), tokens).answer;
        s.second.insert(s.second.end(), answer.ids.begin(), answer.ids.end());
        for (int i = 0; i < 21; ++i) s.second.push_back(100 + i);
        return s;
    }
};
// With biases, with dynamic NTK, with longrope.
static const auto families =
#ifdef INTERNVL_SANITIZED
    testing::Values("tiny-2b");
#else
    testing::Values("tiny-1b", "tiny-2b", "tiny-4b");
#endif
INSTANTIATE_TEST_SUITE_P(Golden, Caches, families, family_name);

TEST_P(Caches, WarmAnswersAreTheColdOnes) {
    const std::pair<std::string, std::string> types[] = {
        {"fp32", "none"}, {"bf16", "none"}, {"bf16", "int8"}, {"bf16", "int4"}};
    for (const auto& [dtype, quant] : types) {
        LoadOptions without = without_caches(dtype, 2);
        without.quant = quant;
        const auto fresh = load(of.name(), without);
        Engine& cold = *fresh;
        const Script s = script(cold);
        const PictureRows seen = cold.encode(s.tiles);
        const Heard first = generate(cold, s.first, seen, tokens);
        const Heard second = generate(cold, s.second, seen, tokens);
        EXPECT_EQ(second.answer.cached_tokens, 0);
        for (const int threads : {1, 2}) {
            SCOPED_TRACE(dtype + " " + quant + " threads " + std::to_string(threads));
            const auto warm = load(of.name(), {.threads = threads, .dtype = dtype, .quant = quant});
            EXPECT_EQ(warm->encode(s.tiles).computed, 3);
            const PictureRows rows = warm->encode(s.tiles);
            EXPECT_EQ(rows.computed, 0);
            EXPECT_EQ(std::memcmp(rows.rows.data, seen.rows.data, size_t(seen.rows.bytes())), 0);
            const auto ask = [&](const std::vector<int>& prompt, const Heard& expected, int known) {
                const Heard heard = generate(*warm, prompt, rows, tokens);
                expect_same(heard, expected);
                EXPECT_EQ(heard.answer.cached_tokens, known);
            };
            const int all = int(s.first.size() - 1) / 16 * 16;
            ask(s.first, first, 0);
            ask(s.first, first, all);  // the same question again
            // All of the first round but its last token, whose keys and values nobody needed.
            ask(s.second, second, int(s.first.size() + tokens - 1) / 16 * 16);
            ask(s.second, second, int(s.second.size() - 1) / 16 * 16);
            ask(s.first, first, all);
        }
    }
}

TEST_P(Caches, InCompany) {
    for (const std::string dtype : {"fp32", "bf16"}) {
        Engine& cold = of.engine(dtype);
        const Script s = script(cold);
        const PictureRows seen = cold.encode(s.tiles);
        std::vector<std::vector<int>> prompts = {s.first, s.second};
        for (int i = 0; i < 6; ++i) {
            prompts.push_back(i % 2 ? s.first : s.second);
            prompts.back().push_back(200 + i);
        }
        std::vector<Heard> alone, together(prompts.size());
        for (const auto& p : prompts) alone.push_back(generate(cold, p, seen, tokens));
        const auto warm = load(of.name(), {.threads = 2, .dtype = dtype});
        for (int pass = 0; pass < 2; ++pass) {
            StepLoop loop(*warm, {.max_sequences = 3, .cache_tokens = 4000, .chunk = 100});
            for (size_t i = 0; i < prompts.size(); ++i) {
                together[i] = {};
                Generation g = generation(prompts[i], seen, tokens, together[i]);
                g.on_end = [&, i](Answer a) { together[i].answer = std::move(a); };
                loop.add(std::move(g));
            }
            while (loop.step()) {
            }
            for (size_t i = 0; i < prompts.size(); ++i) {
                expect_same(together[i], alone[i]);
                // The first three began at the same time; later ones found what they left.
                if (i >= 3 || pass > 0) {
                    EXPECT_GT(together[i].answer.cached_tokens, 768);
                }
            }
        }
    }
}

// The same ids over another picture, over the same tiles in another order, and over rows of which
// nobody says what they show.
TEST_P(Caches, OtherPicturesAreOthers) {
    Engine& cold = of.engine();
    const Script s = script(cold);
    const auto warm = load(of.name(), {.threads = 2, .dtype = "fp32"});
    const PictureRows rows = warm->encode(s.tiles);
    generate(*warm, s.first, rows, tokens);
    const int before = int(std::ranges::find(s.first, cold.context_token()) - s.first.begin());
    std::vector<Tiles> others(3, s.tiles);
    const size_t bytes = s.tiles.rgb.size() / 3;
    others[0].rgb[0] ^= 1;
    others[1].rgb[2 * bytes] ^= 1;
    std::rotate(others[2].rgb.begin(), others[2].rgb.begin() + long(bytes), others[2].rgb.end());
    const int same[] = {0, 2, 0}, computed[] = {1, 1, 0};
    for (size_t i = 0; i < 3; ++i) {
        const PictureRows other = warm->encode(others[i]);
        EXPECT_EQ(other.computed, computed[i]);
        const Heard heard = generate(*warm, s.first, other, tokens);
        EXPECT_EQ(heard.answer.cached_tokens, (before + 256 * same[i]) / 16 * 16) << i;
        expect_same(heard, generate(cold, s.first, cold.encode(others[i]), tokens));
    }
    PictureRows nameless = rows;
    nameless.keys.clear();
    EXPECT_EQ(generate(*warm, s.first, nameless, tokens).answer.cached_tokens, before / 16 * 16);
    // Without rows the places are ordinary tokens.
    const Heard plain = generate(*warm, s.first, {}, tokens);
    EXPECT_EQ(plain.answer.cached_tokens, before / 16 * 16);
    expect_same(plain, generate(cold, s.first, {}, tokens));
}

// A cache so small that most is forgotten; in the end a conversation that does not fit it at all.
TEST_P(Caches, UnderATinyLimit) {
    Engine& cold = of.engine();
    const Script s = script(cold);
    const PictureRows seen = cold.encode(s.tiles);
    const auto warm = load(of.name(), {.threads = 2, .dtype = "fp32", .prefix_cache_mb = 1});
    const int64_t fit = (1 << 20) / cache_bytes(warm->model().config.text, DType::f32);
    std::vector<std::vector<int>> prompts = {s.first, s.second};
    for (int start = 100; int64_t(prompts.size()) * 400 < 2 * fit; start += 5) {
        prompts.emplace_back(400);
        for (int i = 0; i < 400; ++i) prompts.back()[size_t(i)] = start + i % 90;
    }
    std::vector<Heard> expected;
    for (size_t i = 0; i < prompts.size(); ++i)
        expected.push_back(generate(cold, prompts[i], i < 2 ? seen : PictureRows(), tokens));
    const auto ask = [&](size_t i) {  // -> whether all was known
        const Heard heard = generate(*warm, prompts[i], i < 2 ? seen : PictureRows(), tokens);
        expect_same(heard, expected[i]);
        return heard.answer.cached_tokens == int(prompts[i].size() - 1) / 16 * 16;
    };
    int lost = 0;
    for (int turn = 0; turn < 3; ++turn)
        for (size_t i = 0; i < prompts.size(); ++i) {
            lost += !ask(i);
            EXPECT_TRUE(ask(i));
        }
    EXPECT_GE(lost, int(2 * prompts.size()));
    const std::vector<int> longer(size_t(fit + 100), 99);
    for (int i = 0; i < 2; ++i)
        expect_same(generate(*warm, longer, {}, tokens), generate(cold, longer, {}, tokens));
    for (size_t i = 0; i < prompts.size(); ++i) ask(i);
}

// A pass that is broken off leaves nothing to be found; those before it do.
TEST_P(Caches, AfterAnInterruption) {
    Engine& cold = of.engine();
    const Script s = script(cold);
    const PictureRows seen = cold.encode(s.tiles);
    const auto warm = load(of.name(), {.threads = 2, .dtype = "fp32"});
    {
        StepLoop loop(*warm, {.max_sequences = 2, .cache_tokens = 4000, .chunk = 100});
        Heard talker, listener;
        Generation other = generation({300, 301, 302}, {}, 100, talker);
        int passes = 0;
        other.on_token = [&](int) {
            if (++passes == 3) warm->cancel = true;
            return true;
        };
        loop.add(std::move(other));
        Generation g = generation(s.first, seen, tokens, listener);
        g.on_end = [&](Answer a) { listener.answer = std::move(a); };
        loop.add(std::move(g));
        while (loop.step()) {
        }
        EXPECT_EQ(listener.answer.end, Answer::End::cancelled);
    }
    warm->cancel = false;
    const Heard heard = generate(*warm, s.first, seen, tokens);
    // 97 tokens beside the other's prompt, then 99 beside each of its tokens.
    EXPECT_EQ(heard.answer.cached_tokens, (97 + 2 * 99) / 16 * 16);
    expect_same(heard, generate(cold, s.first, seen, tokens));
}

// Its rotary frequencies change with the declared length: what was turned by others is of no use.
TEST(CachesOfDynamicNtk, FrequenciesArePartOfTheName) {
    const auto warm = load("tiny-2b", {.threads = 2, .dtype = "fp32"});
    Engine& cold = reference("tiny-2b").engine();
    const int64_t limit = warm->model().config.text.max_positions;
    std::vector<int> prompt(size_t(limit - 40));
    for (size_t i = 0; i < prompt.size(); ++i) prompt[i] = int(100 + i * 7 % 300);
    const int known = int(prompt.size() - 1) / 16 * 16;
    // tokens that may follow -> tokens that are known
    const std::pair<int, int> asked[] = {{8, 0}, {60, 0}, {20, known}, {60, known}, {61, 0}};
    for (const auto& [tokens, cached] : asked) {
        const Heard heard = generate(*warm, prompt, {}, tokens);
        EXPECT_EQ(heard.answer.cached_tokens, cached) << tokens;
        expect_same(heard, generate(cold, prompt, {}, tokens));
    }
}

TEST(CachesOfTheReference, AreNotShared) {
    const auto warm = load("tiny-2b", {.threads = 2, .dtype = "fp32"});
    ReferenceRope rope(warm->model().config.text);
    Generation g;
    for (int i = 0; i < 100; ++i) g.prompt.push_back(100 + i);
    g.options.max_new_tokens = 2;
    for (ReferenceRope* how : {&rope, static_cast<ReferenceRope*>(nullptr), &rope})
        EXPECT_EQ(warm->generate(g, how).cached_tokens, 0);
    EXPECT_EQ(warm->generate(g).cached_tokens, 96);
}

TEST(VisionRows, EachDistinctTileOnce) {
    const auto e = load("tiny-1b", {.threads = 2, .dtype = "fp32"});
    const Tiles three = tiles_of("rgb_3tiles.png", 12), one = tiles_of("rgb_1tile.png", 12);
    const Tiles* const pictures[] = {&three, &one, &three, &one};
    std::vector<int> heard;
    const auto rows = e->encode(pictures, [&](int done, int tiles) {
        EXPECT_EQ(tiles, 8);
        heard.push_back(done);
    });
    EXPECT_EQ(heard, (std::vector<int>{4, 6, 8}));
    const int computed[] = {3, 1, 0, 0};
    for (size_t i = 0; i < 4; ++i) {
        EXPECT_EQ(rows[i].computed, computed[i]);
        const Tensor expected = reference("tiny-1b").engine().encode(*pictures[i]).rows;
        EXPECT_EQ(std::memcmp(rows[i].rows.data, expected.data, size_t(expected.bytes())), 0);
    }
}

// Rows of another type, of other weights or of a damaged file are not taken for these.
TEST(VisionRows, FromTheDisk) {
    const TemporaryFolder folder;
    const Tiles tiles = tiles_of("rgb_3tiles.png", 12);
    const auto computed = [&](const std::string& name, const std::string& dtype) {
        const auto e = load(name, {.dtype = dtype, .vision_cache_folder = folder / "rows"});
        const PictureRows seen = e->encode(tiles);
        const Tensor expected = reference(name).engine(dtype).encode(tiles).rows;
        EXPECT_EQ(std::memcmp(seen.rows.data, expected.data, size_t(expected.bytes())), 0);
        return seen.computed;
    };
    for (const int expected : {3, 0}) {
        EXPECT_EQ(computed("tiny-1b", "fp32"), expected);
        EXPECT_EQ(computed("tiny-1b", "bf16"), expected);
        EXPECT_EQ(computed("tiny-2b", "fp32"), expected);
    }
    for (const auto& e : std::filesystem::directory_iterator(folder / "rows"))
        std::filesystem::resize_file(e.path(), 100);
    for (const int expected : {3, 0}) EXPECT_EQ(computed("tiny-1b", "fp32"), expected);
}

}  // namespace internvl
