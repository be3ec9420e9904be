// Fine-tuning against the original: losses, gradients of every tensor, ten steps of the optimiser
// (golden/train/README.md says how they were made and how exact they are).
#include "train/labels.h"
#include "train/schedule.h"
#include "trainee.h"

namespace internvl {

static double norm_of(const Values& v) {
    double squares = 0;
    for (const float x : v.data) squares += double(x) * double(x);
    return std::sqrt(squares);
}

// Every entry within 2e-4 of the largest, the whole within 1e-4 of its length.
static void expect_gradient(const View& got_view, const Values& expected, const std::string& name) {
    const Values got = values_of(got_view);
    ASSERT_EQ(got.data.size(), expected.data.size()) << name;
    double most = 0, worst = 0;
    Values off = expected;
    for (size_t i = 0; i < got.data.size(); ++i) {
        off.data[i] -= got.data[i];
        most = std::max(most, std::abs(double(expected.data[i])));
        worst = std::max(worst, std::abs(double(off.data[i])));
    }
    EXPECT_LE(worst, 2e-4 * most) << name;
    EXPECT_LE(norm_of(off), 1e-4 * norm_of(expected)) << name;
}

// What is written down of a large one: its length, 64 entries, a row.
static void expect_summary(const View& got, const nlohmann::json& expected,
                           const std::string& name) {
    const Values all = values_of(got);
    const double most = expected["absmax"];
    EXPECT_NEAR(norm_of(all), expected["l2"].get<double>(), 1e-4 * expected["l2"].get<double>())
        << name;
    const auto slice = expected["slice64"].get<std::vector<double>>();
    for (size_t k = 0; k < slice.size(); ++k)
        EXPECT_NEAR(all.data[k * all.data.size() / slice.size()], slice[k], 2e-4 * most) << name;
    if (!expected.contains("row")) return;
    const auto row = expected["row"]["values"].get<std::vector<double>>();
    const size_t width = expected["shape"][1],
                 first = expected["row"]["index"].get<size_t>() * width;
    for (size_t k = 0; k < row.size(); ++k)
        EXPECT_NEAR(all.data[first + k], row[k], 2e-4 * most) << name;
}

class Training : public testing::TestWithParam<const char*> {};
static const auto given_families =
#ifdef INTERNVL_SANITIZED  // several times as slow: two have all the features between them
    testing::Values("tiny-2b", "tiny-40b");
#else
    testing::Values("tiny-1b", "tiny-2b", "tiny-4b", "tiny-40b");
#endif
INSTANTIATE_TEST_SUITE_P(Every, Training, given_families, family_name);

TEST_P(Training, GradientsOfEveryTensor) {
    const GoldenBatch b(GetParam());
    const nlohmann::json& full = b.json["full"];
    Trainee t(GetParam(), b);
    t.train({});
    EXPECT_NEAR(t.backward(b), full["loss"].get<double>(), 1e-5 * full["loss"].get<double>());
    EXPECT_EQ(t.trained->all().size(), full["grads"].size());
    for (const auto& [name, expected] : full["grads"].items()) {
        const Tensor& got = t.trained->at(name).gradient;
        if (expected.contains("full"))
            expect_gradient(got, b.get("grad." + name), name);
        else
            expect_summary(got, expected, name);
    }
    EXPECT_NEAR(gradient_norm(t.ctx, t.trained->all()), full["grad_norm_all"].get<double>(),
                1e-5 * full["grad_norm_all"].get<double>());
}

// With the tower frozen the others' gradients are what they were: the same bits.
TEST_P(Training, FrozenTower) {
    const GoldenBatch b(GetParam());
    Trainee all(GetParam(), b), some(GetParam(), b);
    all.train({});
    some.train({.vision = true});
    EXPECT_EQ(all.backward(b), some.backward(b));
    for (const Trainable& t : some.trained->all()) {
        const Tensor& other = all.trained->at(t.name).gradient;
        EXPECT_EQ(std::memcmp(t.gradient.data, other.data, size_t(other.bytes())), 0) << t.name;
    }
    EXPECT_NEAR(gradient_norm(some.ctx, some.trained->all()),
                b.json["full"]["grad_norm_llm_mlp1"].get<double>(), 1e-3);
}

TEST_P(Training, GradientsOfAdapters) {
    const GoldenBatch b(GetParam());
    const nlohmann::json& lora = b.json["lora"];
    Trainee t(GetParam(), b);
    t.take_adapters(b);
    EXPECT_NEAR(t.backward(b), lora["loss"].get<double>(), 1e-5 * lora["loss"].get<double>());
    EXPECT_EQ(t.trained->all().size(), lora["parameters"].size());
    for (const Trainable& a : t.trained->all())
        expect_gradient(a.gradient, b.get("lora_grad." + Trainee::peft_name(a.name)), a.name);
    EXPECT_NEAR(gradient_norm(t.ctx, t.trained->all()), lora["grad_norm"].get<double>(), 1e-4);
}

// The same losses with and without a tape, and what a prompt that fills a cache gives to the head.
TEST_P(Training, ComputesTheBitsOfInference) {
    const GoldenBatch b(GetParam());
    const Tiles picture = tiles_of("rgb_3tiles.png", 2);  // of the first sample
    const SampleBatch first{{b.samples.data(), 1}, b.pixels.slice(0, 0, picture.count)};
    const Targets targets(first.samples);
    const std::vector<float> weights = target_weights(first.samples);
    for (const DType dtype : {DType::f32, DType::bf16}) {
        Trainee t(GetParam(), b, dtype);
        t.train({});
        Values last;
        t.ctx.watch = [&](const std::string& stage, const View& v) {
            if (stage == "text/after_norm") last = values_of(v);
        };
        ForwardPass pass(t.model, t.context_token, *t.trained);
        const Values plain = values_of(pass.run(t.ctx, first, targets, weights));
        Tape tape(t.arena);
        t.ctx.tape = &tape;
        t.trained->known_to(tape);
        EXPECT_EQ(values_of(pass.run(t.ctx, first, targets, weights)).data, plain.data);
        Engine& engine = reference(GetParam()).engine(dtype == DType::f32 ? "fp32" : "bf16");
        const Stages stages = trace(engine, b.samples[0].ids, &picture);
        EXPECT_EQ(stages.at("text/after_norm").rows(targets.rows).data, last.data);
    }
}

// Samples of unequal weight (spec 9.8), all in one batch.
TEST(TrainingCases, WeightsOfSamples) {
    const GoldenBatch b("tiny-1b");
    const nlohmann::json expected =
        read_json(golden(train_folder + "batch/special.json"))["packed"];
    for (const auto& [kind, weighting] : {std::pair("token", Weighting::token),
                                          {"sample", Weighting::sample},
                                          {"square", Weighting::square}}) {
        Trainee t("tiny-1b", b);
        t.train({});
        EXPECT_NEAR(t.backward(b, target_weights(b.samples, weighting)),
                    expected[kind]["loss"].get<double>(), 2e-4)
            << kind;
        EXPECT_NEAR(gradient_norm(t.ctx, t.trained->all()),
                    expected[kind]["grad_norm"].get<double>(), 1e-3)
            << kind;
    }
}

TEST(TrainingCases, NothingToLearn) {
    GoldenBatch b("tiny-1b");
    for (Sample& s : b.samples) s.labels.assign(s.labels.size(), ignored_label);
    Trainee t("tiny-1b", b);
    t.train({});
    Tape tape(t.arena);
    t.ctx.tape = &tape;
    t.trained->known_to(tape);
    ForwardPass pass(t.model, t.context_token, *t.trained);
    EXPECT_FALSE(pass.run(t.ctx, b.batch(), Targets(b.samples), {}));
    tape.backward(t.ctx);
    EXPECT_EQ(gradient_norm(t.ctx, t.trained->all()), 0);
}

// From conversations to the loss. One has a token whose id is 0, a real one, which the original
// hides unless its mask is repaired.
TEST(TrainingCases, ConversationsToLoss) {
    GoldenBatch b("tiny-1b");
    const auto special = read_json(golden(train_folder + "batch/special.json"))["id0"];
    Trainee t("tiny-1b", b);
    const ModelFolder folder = ModelFolder::open(golden("checkpoints/tiny-1b"));
    const Tokenizer tokenizer =
        Tokenizer::load([&](const std::string& file) { return folder.read(file); }, "tiny-1b");
    const ChatTemplate& style = find_template(b.json["template"]);
    const auto sample_of = [&](const nlohmann::json& line, const std::vector<int>& pictures) {
        std::vector<Utterance> list;
        for (const auto& u : line["conversations"]) list.push_back({u["from"], u["value"]});
        return label_conversation(style, tokenizer, list, {style.default_system, pictures}).sample;
    };
    const std::vector<int> pictures[] = {{3 * 256}, {}, {256, 256}};
    for (size_t s = 0; s < 3; ++s) {
        const Sample made = sample_of(b.json["samples"][s], pictures[s]);
        EXPECT_EQ(made.ids, b.samples[s].ids);
        EXPECT_EQ(made.labels, b.samples[s].labels);
    }
    b.samples = {sample_of(special["sample"], {})};
    b.pixels = {};
    const auto& expected = special["all_ones_mask"];
    t.train({});
    EXPECT_NEAR(t.backward(b), expected["loss"].get<double>(), 2e-4);
    EXPECT_NEAR(gradient_norm(t.ctx, t.trained->all()), expected["grad_norm"].get<double>(), 1e-3);
}

// Two halves of a batch give the gradients of the whole.
TEST(TrainingCases, GradientsAddUp) {
    const GoldenBatch b("tiny-1b");
    Trainee whole("tiny-1b", b), parts("tiny-1b", b);
    whole.train({.vision = true});
    parts.train({.vision = true});
    const double loss = whole.backward(b);
    const float each = 1.0f / float(Targets(b.samples).rows.size());
    double sum = 0;
    for (const auto& [sample, tile, tiles] : {std::tuple(0, 0, 3), {1, 3, 0}, {2, 3, 2}}) {
        GoldenBatch part("tiny-1b");
        part.samples = {b.samples[size_t(sample)]};
        part.pixels = tiles > 0 ? Tensor{b.pixels.slice(0, tile, tiles), b.pixels.owner} : Tensor();
        sum += parts.backward(part, std::vector<float>(Targets(part.samples).rows.size(), each));
    }
    EXPECT_NEAR(sum, loss, 1e-5 * loss);
    for (const Trainable& t : whole.trained->all())
        expect_gradient(parts.trained->at(t.name).gradient, values_of(t.gradient), t.name);
}

// The reference's slice: the last layer of a frozen tower.
TEST(TrainingCases, UnfreezesLastLayers) {
    const GoldenBatch b("tiny-1b");
    Trainee all("tiny-1b", b), some("tiny-1b", b);
    all.train({});
    some.train({.language = true, .vision = true, .projector = true, .unfreeze_vision_layers = -1});
    EXPECT_EQ(all.backward(b), some.backward(b));
    for (const Trainable& t : some.trained->all()) {
        EXPECT_EQ(t.name.find("vision_model.encoder.layers.2."), 0u) << t.name;
        const Tensor& other = all.trained->at(t.name).gradient;
        EXPECT_EQ(std::memcmp(t.gradient.data, other.data, size_t(other.bytes())), 0) << t.name;
    }
    EXPECT_EQ(some.trained->all().size(), 14u);
}

TEST(TrainingCases, AnyNumberOfThreads) {
    const GoldenBatch b("tiny-1b");
    for (const DType dtype : {DType::f32, DType::bf16}) {
        Trainee one("tiny-1b", b, dtype, {}, 1), three("tiny-1b", b, dtype, {}, 3);
        one.train({});
        three.train({});
        EXPECT_EQ(one.backward(b), three.backward(b));
        for (const Trainable& t : one.trained->all()) {
            const Tensor& other = three.trained->at(t.name).gradient;
            EXPECT_EQ(std::memcmp(t.gradient.data, other.data, size_t(other.bytes())), 0) << t.name;
        }
    }
}

// A head that is the embedding: one gradient of both uses, compared with a difference.
TEST(TrainingCases, TiedHead) {
    const GoldenBatch b("tiny-1b");
    Trainee t("tiny-1b", b, DType::f32, [](std::string name) {
        return name == "language_model.lm_head.weight" ? "left_out" : name;
    });
    t.train({});
    t.backward(b);
    Trainable& table = t.trained->at("language_model.model.embed_tokens.weight");
    EXPECT_EQ(table.uses.size(), 2u);
    const float* const gradient = table.gradient.as<float>();
    const auto most = std::max_element(gradient, gradient + table.gradient.size());
    const double slope = *most, step = 1e-2;
    float& entry = table.value.as<float>()[most - gradient];
    double loss[2];
    for (const int side : {0, 1}) {
        entry += float(side == 0 ? -step : 2 * step);
        t.trained->write_back(t.ctx);
        loss[side] = t.backward(b);
    }
    EXPECT_NEAR((loss[1] - loss[0]) / (2 * step), slope, 0.02 * slope);
}

// With bf16 weights and activations gradients point where those of fp32 do.
TEST_P(Training, GradientsInBf16) {
    const GoldenBatch b(GetParam());
    Trainee exact(GetParam(), b), rounded(GetParam(), b, DType::bf16);
    exact.train({});
    rounded.train({});
    const double loss = exact.backward(b);
    EXPECT_NEAR(rounded.backward(b), loss, 0.01 * loss);
    double dot = 0;
    for (const Trainable& t : exact.trained->all()) {
        const Tensor& other = rounded.trained->at(t.name).gradient;
        for (int64_t i = 0; i < other.size(); ++i)
            dot += double(t.gradient.as<float>()[i]) * double(other.as<float>()[i]);
    }
    EXPECT_GE(dot / gradient_norm(exact.ctx, exact.trained->all()) /
                  gradient_norm(rounded.ctx, rounded.trained->all()),
              0.98);
}

TEST(TrainingCases, LearningRates) {
    const nlohmann::json schedule = read_json(golden(train_folder + "schedule.json"));
    for (const auto& table : schedule["tables"]) {
        const Schedule schedule{table["lr"], table["total"], table["warmup_ratio"]};
        EXPECT_EQ(schedule.warmup_steps(), table["warmup_steps"].get<int64_t>());
        for (size_t i = 0; i < table["steps"].size(); ++i)
            EXPECT_NEAR(schedule.at(table["steps"][i]), table["values"][i].get<double>(), 1e-15);
    }
}

struct TenSteps : testing::TestWithParam<const char*> {};
INSTANTIATE_TEST_SUITE_P(Every, TenSteps,
                         testing::Values("tiny-1b_full", "tiny-1b_lora", "tiny-2b_lora"),
                         family_name);

TEST_P(TenSteps, OfTheOptimiser) {
    const auto expected = read_json(golden(train_folder + "steps/" + GetParam() + ".json"));
    const bool full = expected["mode"] == "full";
    const double relative = full ? 1e-4 : 1e-5, absolute = 5e-4;
    const std::string name = expected["checkpoint"];
    const GoldenBatch b(name);
    Trainee t(name, b);
    if (full)
        t.train({.vision = true});
    else
        t.take_adapters(b);
    EXPECT_EQ(t.trained->count(), expected["n_trainable"].get<int64_t>());
    const Schedule schedule{1e-3, 10, 0.03};
    AdamW optimizer(t.trained->all(), {});
    for (const auto& step : expected["steps"]) {
        t.trained->clear_gradients();
        const double loss = step["loss"], norm = step["grad_norm"];
        EXPECT_NEAR(t.backward(b), loss, relative * loss) << step["step"];
        EXPECT_NEAR(optimizer.step(t.ctx, t.trained->all(), schedule.at(step["step"])), norm,
                    relative * norm)
            << step["step"];
        t.trained->write_back(t.ctx);
    }
    const double last = expected["loss_after_last_step"];
    EXPECT_NEAR(t.backward(b), last, relative * last);
    for (const auto& [after, values] : expected["tensors_after"].items()) {
        std::string ours = after;
        if (!full) {
            ours.erase(ours.find(".base_model.model"), 17);
            ours.replace(ours.find(".lora_"), std::string::npos,
                         ".weight" + ours.substr(ours.find(".lora_"), 7));
        }
        const Tensor& got = t.trained->at(ours).value;
        const double length = values["l2"];
        EXPECT_NEAR(norm_of(values_of(got)), length, relative * length) << after;
        const auto first = values["first8"].get<std::vector<double>>();
        for (size_t i = 0; i < first.size(); ++i)
            EXPECT_NEAR(got.as<float>()[i], first[i], absolute) << after;
    }
}

}  // namespace internvl
