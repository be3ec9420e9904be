// A folder written in fewer bits is the model that --quant makes while it loads.
#include <filesystem>

#include "base/error.h"
#include "model/memory.h"
#include "model/quantize_folder.h"
#include "reference.h"

namespace internvl {

namespace fs = std::filesystem;

static QuantisedWeights quantise(const std::string& from, const QuantPolicy& policy,
                                 const std::string& to) {
    ThreadPool pool(2);
    Arena arena;
    Context ctx{cpu_kernels(), pool, arena, DType::f32};
    StagedFolder staged(to);
    QuantisedWeights weights = quantise_folder(ctx, ModelFolder::open(from), policy, staged.path());
    staged.commit();
    return weights;
}

static std::vector<float> logits_of(Engine& e, const std::string& name) {
    const auto& d = reference(name).dialogue("image_one_round");
    const Tiles tiles = tiles_of("rgb_1tile.png", 12);
    return trace(e, expand_ids(d["calls"][0][0]["input_ids"]), &tiles)["text/logits"].data;
}

TEST(Quantize, AWrittenFolderIsTheModelQuantisedAtLoad) {
    for (const std::string name : {"tiny-1b", "tiny-2b"})
        for (const std::string quant : {"int8", "int4"}) {
            const TemporaryFolder folder;
            const std::string from = golden("checkpoints/" + name), to = folder / "out";
            const QuantisedWeights weights = quantise(from, parse_quant(quant), to);
            EXPECT_LT(weights.bytes_after, weights.bytes_before);
            for (const char* dtype : {"fp32", "bf16"}) {
                Engine at_load(ModelFolder::open(from), LoadOptions{2, dtype, quant});
                Engine written(ModelFolder::open(to), LoadOptions{2, dtype});
                EXPECT_EQ(written.types().quant, QuantPolicy(parse_quant(quant)));
                EXPECT_EQ(logits_of(at_load, name), logits_of(written, name))
                    << name << ' ' << quant << ' ' << dtype;
                const ModelConfig& c = written.model().config;
                EXPECT_EQ(weight_bytes(c, written.types()), weight_bytes(c, at_load.types()));
            }
        }
}

TEST(Quantize, PartsHaveTheirOwnPolicy) {
    const TemporaryFolder folder;
    QuantPolicy policy = Quant::int4;
    policy.vision = Quant::none;
    const std::string from = golden("checkpoints/tiny-1b"), to = folder / "out";
    const QuantisedWeights weights = quantise(from, policy, to);
    LoadOptions options{2, "fp32", "int4"};
    options.quant_vision = "none";
    Engine at_load(ModelFolder::open(from), options),
        written(ModelFolder::open(to), LoadOptions{2, "fp32"});
    EXPECT_EQ(logits_of(at_load, "tiny-1b"), logits_of(written, "tiny-1b"));
    EXPECT_EQ(written.model().vision.layers[0].up.blocks[0].format, DType::bf16);
    for (const WeightError& e : weights.products) {
        EXPECT_NE(e.role, Role::vision);
        EXPECT_GT(e.relative_rms, 0);
        EXPECT_LT(e.relative_rms, e.kept.kind == WeightFormat::int8 ? 0.01 : 0.12) << e.name;
    }
}

// Adapters are merged, as they are at load.
TEST(Quantize, AdaptersAreMerged) {
    const TemporaryFolder folder;
    const std::string from = folder / "from";
    fs::copy(golden("lora/tiny-1b/repository_style"), from);
    for (const auto& file : fs::directory_iterator(golden("checkpoints/tiny-1b")))
        if (const std::string name = file.path().filename();
            !name.starts_with("model") && name != "config.json" && !fs::exists(from + "/" + name))
            fs::copy(file.path(), from);
    quantise(from, Quant::int8, folder / "out");
    Engine at_load(ModelFolder::open(from), LoadOptions{2, "fp32", "int8"}),
        written(ModelFolder::open(folder / "out"), LoadOptions{2, "fp32"});
    EXPECT_EQ(logits_of(at_load, "tiny-1b"), logits_of(written, "tiny-1b"));
}

// Where the embedding serves as the head, a quantised head becomes a tensor of its own.
TEST(Quantize, ATiedHead) {
    const TemporaryFolder folder;
    const std::string from = folder / "from", head = "language_model.lm_head.weight";
    fs::copy(golden("checkpoints/tiny-1b"), from);
    {
        const Checkpoint whole(ModelFolder::open(golden("checkpoints/tiny-1b")));
        std::vector<TensorPlan> plan;
        for (const TensorEntry& e : whole.entries())
            if (e.name != head) plan.push_back({e.name, e.dtype, e.shape});
        SafetensorsWriter writer(from + "/model.safetensors", plan);
        for (const TensorEntry& e : whole.entries())
            if (e.name != head) writer.write(e.bytes.data(), e.bytes.size());
        writer.finish();
    }
    quantise(from, Quant::int8, folder / "out");
    const Checkpoint written(ModelFolder::open(folder / "out"));
    ASSERT_NE(written.find(head), nullptr);
    EXPECT_EQ(written.find(head)->dtype, DType::i8);
    Engine at_load(ModelFolder::open(from), LoadOptions{2, "fp32", "int8"}),
        loaded(ModelFolder::open(folder / "out"), LoadOptions{2, "fp32"});
    EXPECT_EQ(logits_of(at_load, "tiny-1b"), logits_of(loaded, "tiny-1b"));
}

TEST(Quantize, NothingIsLeftOfAFailure) {
    const TemporaryFolder folder;
    const std::string from = golden("checkpoints/tiny-1b"), to = folder / "out";
    EXPECT_THROW(quantise(from, Quant::none, to), UsageError);
    EXPECT_TRUE(fs::is_empty(folder.path()));
    fs::create_directory(to);
    quantise(from, Quant::int8, to);  // an empty folder is a place
    EXPECT_THROW(quantise(from, Quant::int8, to), Error);
    EXPECT_THROW(quantise(to, Quant::int4, folder / "again"), Error);  // quantised already
    EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), {}), 1);
}

}  // namespace internvl
