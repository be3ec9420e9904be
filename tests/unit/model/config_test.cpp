#include "model/config.h"

#include "base/error.h"
#include "model/tensors.h"
#include "support.h"

namespace internvl {

static nlohmann::json tiny() {
    return read_json(golden("checkpoints/tiny-1b/config.json"));
}

static std::string error_of(const nlohmann::json& config) {
    try {
        parse_config(config.dump(), "config.json");
    } catch (const Error& e) {
        return e.what();
    }
    return "";
}

TEST(Config, ReadsTheTinyModel) {
    const ModelConfig c = parse_config(tiny().dump(), "config.json");
    EXPECT_EQ(c.vision.hidden, 64);
    EXPECT_EQ(c.vision.patches(), 1024);
    EXPECT_EQ(c.vision_layers, 3);
    EXPECT_EQ(c.text.head_dim, 16);
    EXPECT_EQ(c.text.kv_heads, 2);
    EXPECT_EQ(c.text.rope_theta, 1e6);
    EXPECT_EQ(c.template_name, "Hermes-2");
    EXPECT_FALSE(c.transposed_shuffle);
    EXPECT_EQ(count_parameters(c).total, 588480);
}

TEST(Config, ReadsEveryTinyFamily) {
    for (const char* name : {"tiny-2b", "tiny-4b", "tiny-26b", "tiny-40b", "tiny-76b"}) {
        const std::string folder = golden("checkpoints/" + std::string(name));
        const ModelConfig c = parse_config(read_text(folder + "/config.json"), name);
        EXPECT_EQ(count_parameters(c).total,
                  read_json(golden("expected/" + std::string(name) + ".json"))["parameters"])
            << name;
        check_tensors(Checkpoint(ModelFolder::open(folder)), c);
    }
}

TEST(Config, ReadsRopeScaling) {
    nlohmann::json config = read_json(golden("checkpoints/tiny-2b/config.json"));
    auto& rope = config["llm_config"]["rope_scaling"];
    EXPECT_EQ(parse_config(config.dump(), "x").text.rope.factor, 2.0);
    rope = {{"type", "llama3"}, {"factor", 8.0}};
    EXPECT_NE(error_of(config).find("rope_scaling.type"), std::string::npos) << error_of(config);
    rope = {{"type", "dynamic"}};
    EXPECT_NE(error_of(config).find("rope_scaling.factor"), std::string::npos);
    config = read_json(golden("checkpoints/tiny-4b/config.json"));
    EXPECT_EQ(parse_config(config.dump(), "x").text.rope.original_positions, 512);
    config["llm_config"]["rope_scaling"]["long_factor"].push_back(2.0);
    EXPECT_NE(error_of(config).find("long_factor"), std::string::npos);
    config["llm_config"]["rope_scaling"]["long_factor"] = {1, 2, 3, 4, 5, 6, 7, -8};
    EXPECT_NE(error_of(config).find("long_factor"), std::string::npos);
}

TEST(Config, InternVL2_1BHasItsParameters) {
    REQUIRE_OUTSIDE("data/configs/internvl2-1b/config.json");
    const ModelConfig c =
        parse_config(read_text(outside("data/configs/internvl2-1b/config.json")), "config.json");
    const ParameterCount n = count_parameters(c);
    EXPECT_EQ(n.vision, 304'012'288);
    EXPECT_EQ(n.projector, 4'482'816);
    EXPECT_EQ(n.language, 629'663'872);
    EXPECT_EQ(n.total, 938'158'976);
}

// Fields that change the result and that this version does not understand; numbers that cannot be.
TEST(Config, RefusesByName) {
    const std::tuple<const char*, const char*, nlohmann::json> cases[] = {
        {"llm_config", "hidden_act", "gelu"},
        {"llm_config", "use_sliding_window", true},
        {"llm_config", "quantization_config", {{"bits", 4}}},
        {"llm_config", "num_attention_heads", 7},
        {"llm_config", "num_key_value_heads", 4},
        {"llm_config", "hidden_size", -1},
        {"llm_config", "hidden_size", 1e30},
        {"llm_config", "vocab_size", "many"},
        {"llm_config", "rope_theta", 0},
        {"llm_config", "num_hidden_layers", 100000},
        {"llm_config", "architectures", {"MixtralForCausalLM"}},
        {"vision_config", "hidden_act", "relu"},
        {"vision_config", "norm_type", "batch_norm"},
        {"vision_config", "qk_normalization", "yes"},
        {"vision_config", "num_channels", 1},
        {"vision_config", "patch_size", 0},
        {"vision_config", "patch_size", 13},
        {"vision_config", "num_attention_heads", 5},
        {"", "ps_version", "v3"},
        {"", "downsample_ratio", 0.25},
        {"", "quantization_config", {{"bits", 8}}},
        {"", "torch_dtype", "int8"},
        {"", "select_layer", 99},
        {"", "force_image_size", 224},
        {"", "model_type", "llava"},
    };
    for (const auto& [section, field, value] : cases) {
        nlohmann::json config = tiny();
        (*section ? config[section] : config)[field] = value;
        const std::string error = error_of(config);
        EXPECT_NE(error, "") << section << '.' << field;
        const std::string named = *field == 'f' ? "image_size" : field;
        if (named != "architectures" && named != "model_type") {
            EXPECT_NE(error.find(named), error.npos) << error;
        }
    }
    EXPECT_THROW(parse_config("{}", "x"), Error);
    EXPECT_THROW(parse_config("[1]", "x"), Error);
    EXPECT_THROW(parse_config("{", "x"), Error);
}

TEST(Config, UnknownFieldsAndTheTieFlagAreIgnored) {
    nlohmann::json config = tiny();
    config["something_new"] = {1, 2};
    config["llm_config"]["tie_word_embeddings"] = false;
    EXPECT_EQ(error_of(config), "");
}

TEST(Families, AllWrongTensorsAreReportedAtOnce) {
    const ModelConfig c = parse_config(tiny().dump(), "config.json");
    const TemporaryFolder folder;
    std::vector<TensorPlan> plan;
    for (const TensorSpec& spec : expected_tensors(c)) {
        if (spec.name == "mlp1.1.weight" || spec.optional) continue;
        std::vector<int64_t> shape = spec.shape;
        if (spec.name == "mlp1.3.bias") shape = {7};
        plan.push_back({spec.name, DType::u8, shape});
    }
    plan.push_back({"stranger", DType::u8, {1}});
    plan.push_back({"language_model.model.layers.0.self_attn.rotary_emb.inv_freq", DType::u8, {1}});
    SafetensorsWriter writer(folder / "model.safetensors", plan);
    for (const TensorPlan& t : plan) {
        int64_t n = 1;
        for (const int64_t d : t.shape) n *= d;
        writer.write(std::string(size_t(n), '\0').data(), size_t(n));
    }
    writer.finish();
    const Checkpoint checkpoint(ModelFolder::open(folder.path()));
    try {
        check_tensors(checkpoint, c);
        FAIL();
    } catch (const Error& e) {
        const std::string text = e.what();
        for (const char* part :
             {"1 missing: mlp1.1.weight", "mlp1.3.bias is [7], the configuration says [96]",
              "1 not known: stranger"})
            EXPECT_NE(text.find(part), text.npos) << text;
        EXPECT_EQ(text.find("lm_head"), text.npos);  // may be absent: the embedding serves
    }
}

}  // namespace internvl
