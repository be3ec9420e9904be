// The tiny InternVL2-1B against what the original implementation computes on it (golden/README.md):
// every stage, every dialogue, every sampling step.
#include <cmath>
#include <map>

#include "engine/session.h"
#include "io/hub.h"
#include "media/decode.h"
#include "support.h"

namespace internvl {

static const char* const checkpoint = "checkpoints/tiny-1b";

static Engine& engine(const std::string& dtype, int threads) {
    static std::map<std::pair<std::string, int>, std::unique_ptr<Engine>> engines;
    auto& e = engines[{dtype, threads}];
    if (!e)
        e = std::make_unique<Engine>(ModelFolder::open(golden(checkpoint)),
                                     LoadOptions{threads, dtype});
    return *e;
}

static Tiles tiles_of(const std::string& file, int max_num) {
    TileOptions options;
    options.max_num = max_num;
    return cut_tiles(load_image(golden("media/" + file)), options);
}

// A tensor as fp32 numbers with its shape.
struct Values {
    std::vector<int64_t> shape;
    std::vector<float> data;
    // Chosen rows of the last but one dimension.
    Values rows(const std::vector<int>& chosen) const {
        const int64_t width = shape.back(), count = shape[shape.size() - 2];
        const int64_t parts = int64_t(data.size()) / width / count;
        Values v;
        v.shape = shape;
        v.shape[shape.size() - 2] = int64_t(chosen.size());
        for (int64_t p = 0; p < parts; ++p)
            for (const int r : chosen)
                v.data.insert(v.data.end(), data.begin() + (p * count + r) * width,
                              data.begin() + (p * count + r + 1) * width);
        return v;
    }
};

static Values values_of(const View& v) {
    Values out;
    out.shape.assign(v.dim, v.dim + v.rank);
    for (int64_t i = 0; i < v.size(); ++i) {
        int64_t at = 0, rest = i;
        for (int d = v.rank; d-- > 0; rest /= v.dim[d]) at += rest % v.dim[d] * v.stride[d];
        out.data.push_back(v.dtype == DType::f32 ? v.as<float>()[at]
                                                 : to_float(v.as<bf16_t>()[at]));
    }
    return out;
}

class Expected {
  public:
    explicit Expected(const std::string& file)
        : file_(MappedFile::open(golden(file))), parsed_(parse_safetensors(file_.bytes(), file)) {}
    Values get(const std::string& name) const {
        for (const TensorEntry& e : parsed_.entries)
            if (e.name == name) {
                View v(const_cast<std::byte*>(e.bytes.data()), e.dtype, e.shape);
                return values_of(v);
            }
        ADD_FAILURE() << "no tensor " << name;
        return {};
    }

  private:
    MappedFile file_;
    Safetensors parsed_;
};

static void expect_near(const Values& got, const Values& expected, double tolerance,
                        const std::string& what) {
    ASSERT_EQ(got.data.size(), expected.data.size()) << what;
    double worst = 0;
    for (size_t i = 0; i < got.data.size(); ++i)
        worst = std::max(worst, std::abs(double(got.data[i]) - double(expected.data[i])));
    EXPECT_LE(worst, tolerance) << what;
}

// bf16: relative rms of all, and the worst cosine of a row.
static void expect_close(const Values& got, const Values& expected, double rms, double cosine,
                         const std::string& what) {
    ASSERT_EQ(got.data.size(), expected.data.size()) << what;
    const size_t width = size_t(expected.shape.back());
    double error = 0, norm = 0, worst = 1;
    for (size_t row = 0; row < got.data.size(); row += width) {
        double ab = 0, aa = 0, bb = 0;
        for (size_t i = row; i < row + width; ++i) {
            const double a = got.data[i], b = expected.data[i];
            ab += a * b, aa += a * a, bb += b * b;
            error += (a - b) * (a - b);
        }
        norm += bb;
        worst = std::min(worst, ab / std::sqrt(aa * bb));
    }
    EXPECT_LE(std::sqrt(error / norm), rms) << what;
    EXPECT_GE(worst, cosine) << what;
}

using Stages = std::map<std::string, Values>;

static Stages trace(Engine& e, const std::vector<int>& ids, const Tiles* tiles) {
    Stages stages;
    e.trace(ids, tiles, false,
            [&](const std::string& name, const View& v) { stages[name] = values_of(v); });
    return stages;
}

static const nlohmann::json& expected_json() {
    static const nlohmann::json json = read_json(golden("expected/tiny-1b.json"));
    return json;
}
static const nlohmann::json& dialogue(const std::string& name) {
    for (const auto& d : expected_json()["dialogues"])
        if (d["name"] == name) return d;
    throw std::runtime_error("no dialogue " + name);
}

static const std::vector<int> shuffled_rows = {0, 1, 2, 3, 252, 253, 254, 255};
static std::vector<int> tile_rows() {
    return expected_json()["vision"]["rows"].get<std::vector<int>>();
}

TEST(Golden, VisionStagesInFp32) {
    const Expected expected("expected/tiny-1b.safetensors");
    const std::vector<int> prompt =
        expand_ids(dialogue("image_one_round")["calls"][0][0]["input_ids"]);
    const Tiles one = tiles_of("rgb_1tile.png", 12), three = tiles_of("rgb_3tiles.png", 12);
    const std::vector<int> three_tiles(3 * 256, 705);
    for (const auto& [name, tiles, ids] :
         {std::tuple("one", &one, prompt), std::tuple("three", &three, three_tiles)}) {
        Stages got = trace(engine("fp32", 2), ids, tiles);
        const std::string at = std::string("vision/") + name + "/";
        for (const char* stage : {"embeddings", "block0", "last"})
            expect_near(got[std::string("vision/") + stage].rows(tile_rows()),
                        expected.get(at + stage), 1e-4, at + stage);
        expect_near(got["vision/shuffled"].rows(shuffled_rows), expected.get(at + "shuffled"), 1e-4,
                    at + "shuffled");
        expect_near(got["vision/projected"], expected.get(at + "projected"), 1e-4,
                    at + "projected");
        if (tiles != &one) continue;
        for (const char* stage : {"embeddings", "block0", "last"})
            expect_near(got[std::string("vision/") + stage], expected.get(at + stage + "_full"),
                        1e-4, at + stage);
        const auto rows = expected_json()["image_prompt"]["rows"].get<std::vector<int>>();
        for (const char* stage : {"embeddings", "after_layer0", "after_layer1"})
            expect_near(got[std::string("text/") + stage].rows(rows),
                        expected.get(std::string("image/") + stage), 1e-4, stage);
        const std::vector<int> last = {int(ids.size()) - 1};
        expect_near(got["text/after_norm"].rows(last), expected.get("image/after_norm_last"), 1e-4,
                    "after_norm");
        expect_near(got["text/logits"].rows(last), expected.get("image/logits_last"), 1e-3,
                    "logits");
    }
}

TEST(Golden, TextStagesInFp32) {
    const Expected expected("expected/tiny-1b.safetensors");
    const auto ids = expected_json()["short_prompt"]["input_ids"].get<std::vector<int>>();
    EXPECT_EQ(engine("fp32", 2).tokenizer().encode(
                  expected_json()["short_prompt"]["text"].get<std::string>()),
              ids);
    Stages got = trace(engine("fp32", 2), ids, nullptr);
    for (const char* stage : {"embeddings", "after_layer0", "after_layer1", "after_norm", "keys0",
                              "keys1", "keys2", "values0", "values1", "values2"})
        expect_near(got[std::string("text/") + stage], expected.get(std::string("short/") + stage),
                    1e-4, stage);
    expect_near(got["text/logits"], expected.get("short/logits"), 1e-3, "logits");
}

TEST(Golden, StagesInBf16) {
    const Expected expected("expected/tiny-1b.bf16.safetensors"),
        exact("expected/tiny-1b.safetensors");
    const Tiles one = tiles_of("rgb_1tile.png", 12);
    Stages vision = trace(engine("bf16", 2), std::vector<int>(256, 705), &one);
    for (const char* stage : {"embeddings", "block0", "last"})
        expect_close(vision[std::string("vision/") + stage].rows(tile_rows()),
                     expected.get(std::string("vision/one/") + stage), 0.02, 0.9995, stage);
    for (const char* stage : {"shuffled", "projected"})
        expect_close(vision[std::string("vision/") + stage].rows(shuffled_rows),
                     expected.get(std::string("vision/one/") + stage), 0.02, 0.9995, stage);
    const auto ids = expected_json()["short_prompt"]["input_ids"].get<std::vector<int>>();
    Stages text = trace(engine("bf16", 2), ids, nullptr);
    expect_close(text["text/logits"], expected.get("short/logits"), 0.04, 0.998,
                 "logits against bf16");
    expect_close(text["text/logits"], exact.get("short/logits"), 0.04, 0.998,
                 "logits against fp32");
}

// Teacher-forced: where bf16 and fp32 logits of a whole dialogue choose the same token.
TEST(Golden, Bf16AgreesWithTheReferencesChoices) {
    int agree = 0, steps = 0;
    for (const auto& d : expected_json()["dialogues"]) {
        if (d["kind"] != "chat" || !d["images"].empty() || !d["video"].empty()) continue;
        for (const auto& call : d["calls"]) {
            std::vector<int> ids = expand_ids(call[0]["input_ids"]);
            const auto generated = call[0]["generated"].get<std::vector<int>>();
            const size_t prompt = ids.size();
            ids.insert(ids.end(), generated.begin(), generated.end());
            const Values logits = trace(engine("bf16", 2), ids, nullptr)["text/logits"];
            const size_t vocab = size_t(logits.shape.back());
            for (size_t i = 0; i < generated.size(); ++i, ++steps) {
                const auto row = logits.data.begin() + long((prompt + i - 1) * vocab);
                agree += std::max_element(row, row + long(vocab)) - row == generated[i];
            }
        }
    }
    EXPECT_GT(steps, 60);
    EXPECT_GE(agree, steps * 9 / 10);
}

static std::vector<Picture> pictures_of(const nlohmann::json& d) {
    std::vector<Picture> pictures;
    for (const auto& image : d["images"]) pictures.push_back({tiles_of(image[0], image[1]), {}});
    return pictures;
}

static std::vector<Reply> play(Engine& e, const nlohmann::json& d) {
    const std::string system =
        d["system_message"].is_null() ? e.system_message() : d["system_message"].get<std::string>();
    Session session(e, system, true);
    std::vector<Reply> replies;
    GenerateOptions options;
    options.max_new_tokens = d["max_new_tokens"];
    const bool combine = !d.contains("num_patches_list");
    for (const auto& question : d["questions"])
        replies.push_back(session.ask(
            question, replies.empty() ? pictures_of(d) : std::vector<Picture>(), options, combine));
    return replies;
}

static bool is_still_dialogue(const nlohmann::json& d) {
    return d["kind"] == "chat" && d["video"].empty();
}

TEST(Golden, DialoguesToTheId) {
    int rounds = 0;
    for (const int threads : {1, 2})
        for (const auto& d : expected_json()["dialogues"]) {
            if (!is_still_dialogue(d)) continue;
            SCOPED_TRACE(d["name"].get<std::string>());
            const std::vector<Reply> replies = play(engine("fp32", threads), d);
            for (size_t i = 0; i < replies.size(); ++i, ++rounds) {
                const auto& call = d["calls"][i][0];
                EXPECT_EQ(replies[i].prompt.ids, expand_ids(call["input_ids"]));
                EXPECT_EQ(replies[i].ids, call["generated"].get<std::vector<int>>());
                EXPECT_EQ(replies[i].text, d["responses"][i].get<std::string>());
            }
        }
    EXPECT_GE(rounds, 2 * 15);
}

// Streaming: what a listener hears, joined, is what the reference's streamer yields (its text is
// not stripped).
TEST(Golden, StreamedText) {
    for (const char* name : {"stream_text", "stream_image"}) {
        const auto& d = dialogue(name);
        Engine& e = engine("fp32", 2);
        Session session(e, e.system_message(), true);
        GenerateOptions options;
        options.max_new_tokens = d["max_new_tokens"];
        std::string heard;
        session.ask(d["questions"][0], pictures_of(d), options, false, [&](std::string_view piece) {
            heard += piece;
            return true;
        });
        EXPECT_EQ(heard, d["responses"][0].get<std::string>());
    }
}

// api.md 6.2: the number of threads and the cut of the prompt do not change a bit of the answer.
TEST(Golden, AnswersDoNotDependOnThreadsOrChunks) {
    for (const char* dtype : {"fp32", "bf16"})
        for (const char* name : {"text_unicode", "image_3_tiles"}) {
            const auto& d = dialogue(name);
            const std::vector<Reply> first = play(engine(dtype, 1), d);
            std::vector<std::vector<uint32_t>> bits;
            for (const int threads : {1, 2})
                for (const int64_t chunk : {16, 64, 100000}) {
                    Engine& e = engine(dtype, threads);
                    std::vector<Picture> pictures = pictures_of(d);
                    Generation g;
                    g.prompt = first[0].prompt.ids;
                    g.picture_rows = pictures.empty() ? Tensor() : e.encode(pictures[0].tiles);
                    g.options.max_new_tokens = d["max_new_tokens"];
                    bits.emplace_back();
                    g.on_logits = [&](std::span<const float> logits) {
                        for (const float x : logits)
                            bits.back().push_back(std::bit_cast<uint32_t>(x));
                    };
                    EXPECT_EQ(e.generate(g, nullptr, chunk).ids, first[0].ids)
                        << dtype << ' ' << name << ' ' << threads << ' ' << chunk;
                }
            for (const auto& b : bits) EXPECT_EQ(b, bits[0]) << dtype << ' ' << name;
        }
}

static GenerateOptions generation_options(const nlohmann::json& parameters) {
    GenerateOptions o;
    const auto take = [&](const char* name, auto& value) {
        if (parameters.contains(name)) parameters[name].get_to(value);
    };
    take("temperature", o.temperature);
    take("top_k", o.top_k);
    take("top_p", o.top_p);
    take("typical_p", o.typical_p);
    take("epsilon_cutoff", o.epsilon_cutoff);
    take("eta_cutoff", o.eta_cutoff);
    take("renormalize_logits", o.renormalize_logits);
    take("repetition_penalty", o.repetition_penalty);
    take("no_repeat_ngram_size", o.no_repeat_ngram_size);
    take("min_new_tokens", o.min_new_tokens);
    take("min_length", o.min_length);
    take("suppress_tokens", o.suppress_tokens);
    take("begin_suppress_tokens", o.begin_suppress_tokens);
    take("num_beams", o.num_beams);
    take("length_penalty", o.length_penalty);
    take("early_stopping", o.early_stopping);
    return o;
}

TEST(Golden, GenerationParameters) {
    int compared = 0;
    for (const auto& g : expected_json()["generation"]) {
        GenerateOptions options = generation_options(g["parameters"]);
        const auto& d = dialogue(g["dialogue"]);
        if (!is_still_dialogue(d) || !g["stable"].get<bool>()) continue;
        options.max_new_tokens = g["max_new_tokens"];
        Engine& e = engine("fp32", 2);
        Session session(e, e.system_message(), true);
        const Reply reply = session.ask(d["questions"][0], pictures_of(d), options);
        EXPECT_EQ(reply.ids, g["generated"][0].get<std::vector<int>>())
            << g["dialogue"] << ' ' << g["set"];
        ++compared;
    }
    EXPECT_GE(compared, 18);
}

TEST(Golden, SamplingDistributions) {
    const Expected expected("expected/tiny-1b.safetensors");
    int steps = 0;
    for (const auto& s : expected_json()["sampling"]) {
        GenerateOptions options = generation_options(s["parameters"]);
        options.do_sample = true;
        const Values logits =
            expected.get("sampling/" + s["dialogue"].get<std::string>() + "/logits");
        const size_t vocab = size_t(logits.shape.back());
        const auto forced = s["forced"].get<std::vector<int>>();
        Sampler sampler(options, s["sequence_before_first_step"][0], 702);
        for (size_t t = 0; t < s["steps"].size(); ++t) {
            const auto& step = s["steps"][t];
            if (!step["stable"].get<bool>()) continue;
            const auto list = sampler.distribution({logits.data.data() + t * vocab, vocab},
                                                   std::span(forced).first(t));
            ASSERT_EQ(list.size(), step["kept"].get<size_t>()) << s["parameters"] << " step " << t;
            const auto ids = step["ids"].get<std::vector<int>>();
            for (size_t i = 0; i < ids.size(); ++i) {
                EXPECT_EQ(list[i].id, ids[i]) << s["parameters"] << " step " << t;
                EXPECT_NEAR(list[i].probability, step["probabilities"][i].get<double>(),
                            1e-4 * step["probabilities"][i].get<double>() + 1e-7);
            }
            ++steps;
        }
    }
    EXPECT_GE(steps, 100);
}

}  // namespace internvl
