#include "model/filed_codes.h"

#include "base/error.h"
#include "model/weights.h"
#include "support.h"

namespace internvl {

// A product in AWQ's layout, of any group, and what it stands for.
struct AwqProduct {
    int64_t in, out, group;
    std::vector<float> weights;  // [out, in]

    void write(const std::string& path) {
        static constexpr int order[8] = {0, 2, 4, 6, 1, 3, 5, 7};
        const int64_t groups = in / group, words = out / 8;
        std::vector<uint32_t> codes(size_t(in * words)), zeros(size_t(groups * words));
        std::vector<f16_t> scales(size_t(groups * out));
        weights.resize(size_t(out * in));
        uint32_t seed = 1;
        const auto next = [&] { return (seed = seed * 1664525 + 1013904223) >> 28; };
        for (f16_t& s : scales) s = to_f16(float(next() + 1) / 64);
        for (uint32_t& z : zeros)
            for (int i = 0; i < 8; ++i) z |= next() << 4 * i;
        for (int64_t k = 0; k < in; ++k)
            for (int64_t w = 0; w < words; ++w)
                for (int i = 0; i < 8; ++i) {
                    const uint32_t code = next();
                    const int64_t n = 8 * w + order[i], g = k / group;
                    codes[size_t(k * words + w)] |= code << 4 * i;
                    const int zero = int(zeros[size_t(g * words + w)] >> 4 * i & 15);
                    weights[size_t(n * in + k)] =
                        float(int(code) - zero) * to_float(scales[size_t(g * out + n)]);
                }
        SafetensorsWriter writer(path, {{"x.qweight", DType::i32, {in, words}},
                                        {"x.qzeros", DType::i32, {groups, words}},
                                        {"x.scales", DType::f16, {groups, out}}});
        writer.write(codes.data(), codes.size() * 4);
        writer.write(zeros.data(), zeros.size() * 4);
        writer.write(scales.data(), scales.size() * 2);
        writer.finish();
    }
};

// Groups that no kernel takes as they are, and outputs that fill no panel.
TEST(FiledCodes, GroupsOfAnySize) {
    const std::tuple<int64_t, int64_t, int64_t, int> cases[] = {
        {512, 40, 256, 128}, {160, 64, -1, 80}, {1024, 72, 1024, 128},
        {8, 8, 8, 8},        {88, 32, -1, 88},  {2 * 8 * 31, 32, -1, 16}};
    for (const auto& [in, out, group, kernel_group] : cases) {
        const TemporaryFolder folder;
        AwqProduct p{in, out, group < 0 ? in : group, {}};
        p.write(folder / "model.safetensors");
        Checkpoint checkpoint(ModelFolder::open(folder.path()));
        ThreadPool pool(2);
        Arena arena;
        Context ctx{cpu_kernels(), pool, arena, DType::f32};
        QuantPolicy filed;
        filed.language = Quant::int4;
        filed.group = group;
        WeightLoader loader(ctx, checkpoint, {DType::f32, {}, filed}, filed);
        const Linear l = loader.linear({{"x.weight"}, {""}}, Role::language);
        EXPECT_EQ(l.blocks[0].format, WeightFormat(WeightFormat::int4, kernel_group));
        EXPECT_EQ(l.in, in);
        EXPECT_EQ(l.out, out);
        Tensor unit = make_tensor(DType::f32, {in, in});
        std::fill_n(unit.as<float>(), in * in, 0.0f);
        for (int64_t i = 0; i < in; ++i) unit.as<float>()[i * in + i] = 1;
        const Tensor seen = linear(ctx, unit, l);
        for (int64_t n = 0; n < out; ++n)
            for (int64_t k = 0; k < in; ++k)
                ASSERT_EQ(seen.as<float>()[k * out + n], p.weights[size_t(n * in + k)])
                    << in << ' ' << group << ": " << n << ' ' << k;
    }
}

static nlohmann::json awq_config() {
    return read_json(golden("awq/tiny-2b/config.json"));
}

static std::string error_of(const nlohmann::json& config) {
    try {
        parse_config(config.dump(), "config.json");
    } catch (const Error& e) {
        return e.what();
    }
    return "";
}

TEST(QuantisationConfig, InEitherPlace) {
    nlohmann::json config = awq_config();
    for (const bool top : {false, true}) {
        if (top) {
            config["quantization_config"] = config["llm_config"]["quantization_config"];
            config["llm_config"].erase("quantization_config");
        }
        const ModelConfig c = parse_config(config.dump(), "x");
        EXPECT_EQ(c.quant.method, FiledQuant::Method::awq);
        EXPECT_EQ(c.quant.parts.language, Quant::int4);
        EXPECT_EQ(c.quant.parts.head, Quant::none);
        EXPECT_EQ(c.quant.parts.group, 32);
    }
}

TEST(QuantisationConfig, RefusesByName) {
    const std::tuple<const char*, nlohmann::json, const char*> cases[] = {
        {"quant_method", "gptq", "awq (version gemm, 4 bits) or internvl, found gptq"},
        {"quant_method", "bitsandbytes", "found bitsandbytes"},
        {"quant_method", nullptr, "found none"},
        {"version", "gemv", "expected \"gemm\", found \"gemv\""},
        {"bits", 8, "expected 4, found 8"},
        {"zero_point", false, "expected true, found false"},
        {"group_size", 0, "-1 or a multiple of 8"},
        {"group_size", 100, "-1 or a multiple of 8"},
        {"group_size", "all", "a whole number"},
    };
    for (const auto& [field, value, text] : cases) {
        nlohmann::json config = awq_config();
        config["llm_config"]["quantization_config"][field] = value;
        const std::string error = error_of(config);
        EXPECT_NE(error.find(std::string("llm_config.quantization_config.") + field), error.npos)
            << error;
        EXPECT_NE(error.find(text), error.npos) << error;
    }
}

// What check_tensors says of the fixture under another configuration, or with tensors renamed.
static std::string check(const nlohmann::json& config,
                         const std::function<std::string(std::string)>& rename = {}) {
    Checkpoint checkpoint(ModelFolder::open(golden("awq/tiny-2b")));
    if (rename) checkpoint.rename(rename);
    try {
        check_tensors(checkpoint, parse_config(config.dump(), "config.json"));
    } catch (const Error& e) {
        return e.what();
    }
    return "";
}

TEST(QuantisedTensors, AreCheckedLikeTheOthers) {
    nlohmann::json config = awq_config();
    EXPECT_EQ(check(config), "");
    auto& quant = config["llm_config"]["quantization_config"];
    const auto expect = [&](const std::string& text, const std::string& part) {
        EXPECT_NE(text.find(part), text.npos) << text;
    };
    quant["group_size"] = 16;
    expect(check(config),
           "layers.0.attention.wqkv.qzeros is I32 [3, 24], the configuration says "
           "I32 [6, 24]");
    quant["group_size"] = 64;
    expect(check(config), "wqkv.weight has 96 inputs, which is no multiple of group_size 64");
    quant["group_size"] = 32;
    const std::string missing = check(config, [](std::string name) {
        if (name.ends_with("0.attention.wo.scales")) return std::string("stranger");
        return name;
    });
    expect(missing, "1 missing: language_model.model.layers.0.attention.wo.scales");
    expect(missing, "1 not known: stranger");
    config["llm_config"].erase("quantization_config");
    expect(check(config), "missing: language_model.model.layers.0.attention.wqkv.weight");
}

}  // namespace internvl
