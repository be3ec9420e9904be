// api.md 6.2: an answer is the same alone and in any company, for any order of arrival, any cut of
// the prompt, any state of the caches, any number of threads, and after preemptions; to the bit.
#include <random>
#include <set>

#include "engine/step_loop.h"
#include "reference.h"

namespace internvl {

namespace {

struct Asked {
    Generation g;
    int first = -1;  // the first choice of the same request
};

struct Heard {
    Answer answer;
    std::vector<size_t> logits;  // a digest of their bits, for each choice

    void listen(Generation& g) {
        g.on_logits = [this](std::span<const float> l) {
            logits.push_back(std::hash<std::string_view>()(
                {reinterpret_cast<const char*>(l.data()), l.size_bytes()}));
        };
        g.on_end = [this](Answer a) { answer = std::move(a); };
    }
};

std::shared_ptr<const Tiles> part(const Tiles& whole, int first, int count) {
    const size_t bytes = whole.rgb.size() / size_t(whole.count);
    Tiles t{{count, 1}, count, whole.side, {}};
    t.rgb.assign(whole.rgb.begin() + long(size_t(first) * bytes),
                 whole.rgb.begin() + long(size_t(first + count) * bytes));
    return std::make_shared<const Tiles>(std::move(t));
}

// Requests as they come together: texts, pictures of one to thirteen tiles, videos, several
// choices, drawn and greedy.
class Crowd {
  public:
    Crowd(const Engine& e, unsigned seed)
        : context_(e.context_token()), random_(seed), whole_(tiles_of("thirteen_tiles.jpg", 12)) {}

    void text(int count, int most_tokens) {
        for (int i = 0; i < count; ++i) {
            Generation& g = request(most_tokens);
            for (int64_t n = 1 + upto(90); n-- > 0;) g.prompt.push_back(word());
        }
    }
    // Each picture of so many tiles; a few begin with the same ones.
    void pictures(int count, int tiles, int at_once = 1) {
        for (int i = 0; i < count; ++i) {
            Generation& g = request(20);
            for (int n = 0; n < 5; ++n) g.prompt.push_back(100 + n);
            for (int p = 0; p < at_once; ++p) {
                const int first = int(upto(whole_.count - tiles + 1));
                g.unseen.push_back(part(whole_, first, tiles));
                g.prompt.insert(g.prompt.end(), size_t(tokens_per_tile * tiles), context_);
                g.prompt.push_back(word());
            }
            for (int64_t n = 1 + upto(20); n-- > 0;) g.prompt.push_back(word());
        }
    }
    void more_choices(int of, int count) {
        for (int i = 0; i < count; ++i) {
            all.push_back({all[size_t(of)].g, of});
            all.back().g.options.seed += uint64_t(i) + 1;
        }
    }

    std::vector<Asked> all;

  private:
    int64_t upto(int64_t n) { return int64_t(random_() % uint64_t(n)); }
    int word() { return int(100 + upto(300)); }
    Generation& request(int most_tokens) {
        Generation g;
        g.options.max_new_tokens = int(most_tokens / 2 + upto(most_tokens / 2));
        g.options.ignore_eos = true;
        g.options.seed = random_();
        g.options.do_sample = upto(2) == 0;
        g.queue = std::string(1, char('a' + upto(3)));
        g.priority = int(upto(2));
        all.push_back({std::move(g)});
        return all.back().g;
    }

    int context_;
    std::mt19937 random_;
    Tiles whole_;
};

std::vector<Heard> one_by_one(Engine& e, const std::vector<Asked>& all) {
    std::vector<Heard> heard(all.size());
    for (size_t i = 0; i < all.size(); ++i) {
        Generation g = all[i].g;
        heard[i].listen(g);
        std::vector<const Tiles*> pictures;
        for (const auto& p : g.unseen) pictures.push_back(p.get());
        int64_t rows = 0, at = 0;
        const std::vector<PictureRows> seen = e.encode(pictures);
        for (const PictureRows& p : seen) rows += p.rows.dim[0];
        if (rows > 0)
            g.pictures.rows = make_tensor(seen[0].rows.dtype, {rows, seen[0].rows.dim[1]});
        for (const PictureRows& p : seen) {
            copy(e.context(), p.rows, g.pictures.rows.slice(0, at, p.rows.dim[0]));
            at += p.rows.dim[0];
        }
        g.unseen.clear();
        heard[i].answer = e.generate(g);
    }
    return heard;
}

// All at once, in a random order and a few between two steps.
// `leaves`: one of so many goes away, some time.
std::vector<Heard> together(Engine& e, const std::vector<Asked>& all, const LoopOptions& options,
                            unsigned seed, LoopStatus* status = nullptr, unsigned leaves = 0) {
    std::mt19937 random(seed);
    std::vector<size_t> order;
    for (size_t i = 0; i < all.size(); ++i)
        if (all[i].first < 0) order.push_back(i);
    std::ranges::shuffle(order, random);
    std::vector<Heard> heard(all.size());
    StepLoop loop(e, options);
    std::vector<uint64_t> ids;
    const auto add = [&](size_t i, uint64_t first) {
        Generation g = all[i].g;
        heard[i].listen(g);
        g.sibling_of = first;
        ids.push_back(loop.add(std::move(g)));
        return ids.back();
    };
    size_t next = 0;
    do {
        if (leaves && !ids.empty() && random() % leaves == 0)
            loop.cancel(ids[random() % ids.size()]);
        for (uint64_t n = 1 + random() % 6; n-- > 0 && next < order.size();) {
            const uint64_t first = add(order[next], 0);
            for (size_t i = 0; i < all.size(); ++i)
                if (all[i].first == int(order[next])) add(i, first);
            ++next;
        }
    } while (loop.step() || next < order.size());
    const LoopStatus end = loop.status();
    EXPECT_EQ(end.blocks_used, 0);
    EXPECT_EQ(end.running + end.waiting, 0);
    if (status) *status = end;
    return heard;
}

void expect_same(const std::vector<Heard>& got, const std::vector<Heard>& expected) {
    for (size_t i = 0; i < expected.size(); ++i) {
        if (got[i].answer.error) {
            try {
                std::rethrow_exception(got[i].answer.error);
            } catch (const std::exception& error) {
                ADD_FAILURE() << error.what();
            }
        }
        EXPECT_EQ(got[i].answer.end, Answer::End::length) << i;
        EXPECT_EQ(got[i].answer.ids, expected[i].answer.ids) << i;
        EXPECT_EQ(got[i].logits, expected[i].logits) << i;
    }
}

std::unique_ptr<Engine> load(const std::string& name, const LoadOptions& options) {
    return std::make_unique<Engine>(ModelFolder::open(golden("checkpoints/" + name)), options);
}

}  // namespace

class Serving : public Golden {
  protected:
    // The whole crowd for one family, fewer for the others.
    bool whole = of.name() == "tiny-1b";

    Crowd crowd(Engine& e, unsigned seed) const {
        Crowd c(e, seed);
        c.text(whole ? 17 : 4, 30);
        c.pictures(whole ? 9 : 2, 1);
        c.pictures(whole ? 4 : 1, 2);
        if (whole) c.pictures(2, 5);
        if (whole) c.pictures(1, 13);
        c.pictures(whole ? 2 : 1, 1, whole ? 4 : 2);  // frames of a video
        for (int i = 0; i < (whole ? 5 : 1); ++i) c.more_choices(3 * i, 1);
        return c;
    }
};
INSTANTIATE_TEST_SUITE_P(Golden, Serving, every_family, family_name);

// D1, D2, D4, D5.
TEST_P(Serving, AnswersDoNotDependOnCompany) {
    Engine& alone = of.engine();
    const Crowd c = crowd(alone, 1);
    ASSERT_EQ(c.all.size(), whole ? 40u : 9u);
    const std::vector<Heard> expected = one_by_one(alone, c.all);
    const auto rows = load(of.name(), {.threads = 2, .dtype = "fp32", .prefix_cache_mb = 0});
    const LoopOptions ways[] = {
        {.max_sequences = 32, .cache_tokens = 40000, .chunk = 256},
        {.max_sequences = 5, .cache_tokens = 8000, .chunk = 16},
        {.max_sequences = 32, .cache_tokens = 40000, .chunk = 64, .step_budget_ms = 1},
        {.max_sequences = 8, .cache_tokens = 12000, .chunk = 4096, .step_budget_ms = 20},
        {.max_sequences = 16, .cache_tokens = 20000, .chunk = 512, .step_budget_ms = 5}};
    for (unsigned way = 0; way < (whole ? 5 : 3); ++way) {
        SCOPED_TRACE(way);
        expect_same(together(*rows, c.all, ways[way], way), expected);
    }
    for (const int threads : {1, 0}) {
        SCOPED_TRACE(threads);
        const auto warm = load(of.name(), {.threads = threads, .dtype = "fp32"});
        LoopStatus status;
        expect_same(together(*warm, c.all, ways[0], 7, &status), expected);
        EXPECT_GT(status.vision_misses, 0);
        const std::vector<Heard> again = together(*warm, c.all, ways[0], 8, &status);
        expect_same(again, expected);
        EXPECT_EQ(status.vision_misses, 0);
        for (size_t i = 0; i < again.size(); ++i) {
            const int prompt = int(c.all[i].g.prompt.size());
            EXPECT_EQ(again[i].answer.cached_tokens, (prompt - 1) / 16 * 16);
            EXPECT_EQ(again[i].answer.tiles_computed, 0);
        }
    }
}

// D3: so few blocks that answers have to be begun again.
TEST_P(Serving, AnswersDoNotDependOnPreemptions) {
    Engine& alone = of.engine();
    Crowd c(alone, 2);
    c.text(whole ? 28 : 22, 200);
    c.pictures(3, 1);
    c.pictures(1, 2);
    c.more_choices(0, 2);
    const std::vector<Heard> expected = one_by_one(alone, c.all);
    // Where nothing is kept, and where what was computed before may be found again.
    int preempted = 0;
    for (const int mb : {0, 64}) {
        const auto e = load(of.name(), {.threads = 2, .dtype = "fp32", .prefix_cache_mb = mb});
        LoopStatus status;
        LoopOptions tiny = {
            .max_sequences = 32, .cache_tokens = 45 * cache_block, .own_cache = true, .chunk = 64};
        expect_same(together(*e, c.all, tiny, 3, &status), expected);
        EXPECT_GE(status.preemptions, 10);
        EXPECT_EQ(status.blocks_total, 45);
        tiny.step_budget_ms = 2;
        for (const unsigned seed : {4u, 5u}) {
            const std::vector<Heard> heard = together(*e, c.all, tiny, seed);
            expect_same(heard, expected);
            for (const Heard& h : heard) {
                preempted += h.answer.preemptions;
                EXPECT_LE(h.answer.preemptions, Scheduler::most_preemptions);
            }
        }
    }
    EXPECT_GE(preempted, 20);
}

// Others leave, in the queue, while their pictures are seen, in the middle of an answer.
TEST_P(Serving, AnswersDoNotDependOnThoseWhoLeave) {
    Engine& alone = of.engine();
    Crowd c(alone, 5);
    c.text(12, 60);
    c.pictures(3, 1);
    c.pictures(1, 3);
    c.more_choices(0, 2);
    c.more_choices(3, 2);
    std::vector<Heard> expected = one_by_one(alone, c.all);
    int left = 0;
    for (const int mb : {0, 64}) {
        const auto e = load(of.name(), {.threads = 2, .dtype = "fp32", .prefix_cache_mb = mb});
        for (const unsigned seed : {1u, 2u, 3u}) {
            std::vector<Heard> heard = together(*e, c.all,
                                                {.max_sequences = 6,
                                                 .cache_tokens = 70 * cache_block,
                                                 .own_cache = true,
                                                 .chunk = 48,
                                                 .step_budget_ms = 1},
                                                seed, nullptr, 12);
            for (size_t i = 0; i < heard.size(); ++i) {
                if (heard[i].answer.end != Answer::End::cancelled) continue;
                ++left;
                const auto& ids = heard[i].answer.ids;  // what it had is right, too
                ASSERT_LE(ids.size(), expected[i].answer.ids.size());
                EXPECT_TRUE(std::equal(ids.begin(), ids.end(), expected[i].answer.ids.begin()));
                heard[i] = expected[i];
            }
            expect_same(heard, expected);
        }
    }
    EXPECT_GE(left, 12);
}

// The choices of a request share their prompt, and its pictures, also where nothing is kept.
TEST_P(Serving, ChoicesShareTheirPrompt) {
    Crowd c(of.engine(), 3);
    c.pictures(1, 2);
    c.more_choices(0, 3);
    LoopStatus status;
    const std::vector<Heard> heard = together(
        of.engine(), c.all, {.max_sequences = 8, .cache_tokens = 8000, .chunk = 64}, 1, &status);
    const int prompt = int(c.all[0].g.prompt.size());
    EXPECT_EQ(heard[0].answer.cached_tokens, 0);
    EXPECT_EQ(heard[0].answer.tiles_computed, 2);
    for (size_t i = 1; i < 4; ++i) {
        EXPECT_EQ(heard[i].answer.cached_tokens, (prompt - 1) / 16 * 16);
        EXPECT_EQ(heard[i].answer.tiles_computed, 0);
    }
    EXPECT_EQ(status.vision_misses, 2);
    EXPECT_LE(status.prefill_text_tokens + status.prefill_image_tokens, prompt + 3 * 16);
}

// What others may not find out about: whether somebody sent the same.
TEST(Scopes, ShareNothing) {
    const auto e = load("tiny-1b", {.threads = 2, .dtype = "fp32"});
    Crowd c(*e, 4);
    c.pictures(1, 2);
    const std::pair<const char*, bool> asked[] = {{"", false},    {"", true},    {"one", false},
                                                  {"two", false}, {"one", true}, {"", true}};
    for (const auto& [scope, known] : asked) {
        c.all[0].g.scope = scope;
        const std::vector<Heard> heard = together(*e, c.all, {.cache_tokens = 4000}, 1);
        EXPECT_EQ(heard[0].answer.cached_tokens > 0, known) << scope;
        EXPECT_EQ(heard[0].answer.tiles_computed, known ? 0 : 2) << scope;
        EXPECT_EQ(heard[0].answer.tiles_cached, known ? 2 : 0) << scope;
    }
    // Not even at the same time.
    c.all.push_back(c.all[0]);
    c.all[0].g.scope = "three", c.all[1].g.scope = "four";
    for (const Heard& h : together(*e, c.all, {.cache_tokens = 4000}, 1))
        EXPECT_EQ(h.answer.tiles_computed, 2);
}

// Tiles that pass the tower a piece at a time, and beside others.
TEST_P(Serving, TheTowerMayRest) {
    Engine& e = of.engine();
    const Vision& vision = e.model().vision;
    const Tiles tiles = tiles_of("rgb_5tiles.png", 12);
    const auto shared = std::make_shared<const Tiles>(tiles);
    const Tensor expected = e.encode(tiles).rows;
    for (const double ms : {0.0, 3.0}) {
        Tower tower(e.context(), vision, false);
        for (int t = 0; t < tiles.count; ++t) {
            const uint64_t owner = uint64_t(t % 2);
            EXPECT_TRUE(tower.want(owner, size_t(t), {shared, t}, tile_key(tiles, t)));
        }
        EXPECT_FALSE(tower.want(2, 0, {shared, 0}, tile_key(tiles, 0)));
        const uint64_t turn[] = {1, 0};
        std::vector<int> order;
        int rests = 0;
        while (tower.busy()) {
            const Tower::Work work = tower.advance(ms, turn);
            rests += work.seen.empty();
            for (const Tower::Seen& seen : work.seen) {
                const int64_t t = int64_t(seen.wanted[0].second), rows = seen.rows.dim[0];
                order.push_back(int(t));
                EXPECT_EQ(seen.wanted.size(), t == 0 ? 2u : 1u);
                EXPECT_EQ(std::memcmp(seen.rows.data, expected.slice(0, t * rows, rows).data,
                                      size_t(seen.rows.bytes())),
                          0);
            }
        }
        EXPECT_EQ(order.size(), size_t(tiles.count));
        EXPECT_EQ(order[0], 1);
        EXPECT_EQ(order[1], 3);
        if (ms == 0) {
            EXPECT_GE(rests, int(vision.layers.size()) * tiles.count);
        }
    }
}

// What is dropped is not computed, what others want is.
TEST(Towers, DropWhatNobodyWants) {
    Engine& e = reference("tiny-1b").engine();
    const Tiles tiles = tiles_of("rgb_3tiles.png", 12);
    const auto shared = std::make_shared<const Tiles>(tiles);
    Tower tower(e.context(), e.model().vision, false);
    for (const uint64_t owner : {1u, 2u})
        for (int t = 0; t < 2; ++t)
            tower.want(owner, size_t(t), {shared, t}, tile_key(tiles, t + int(owner == 2)));
    tower.advance(0, {});
    EXPECT_EQ(tower.owners_of_batch(), (std::vector<uint64_t>{1, 1, 2}));
    tower.drop(1);
    EXPECT_TRUE(tower.busy());
    EXPECT_EQ(tower.owners_of_batch(), (std::vector<uint64_t>{2}));
    tower.drop(2);
    EXPECT_FALSE(tower.busy());
    EXPECT_TRUE(tower.owners_of_batch().empty());
}

}  // namespace internvl
