// A folder in AWQ's layout against what the original computes with its de-quantised weights.
#include <filesystem>

#include "base/digest.h"
#include "ops/linear.h"
#include "reference.h"

namespace internvl {

namespace fs = std::filesystem;

// The fixture with the tokenizer of its base checkpoint.
static Engine open_awq(const TemporaryFolder& folder, const LoadOptions& options) {
    fs::copy(golden("awq/tiny-2b"), folder.path(), fs::copy_options::recursive);
    for (const auto& file : fs::directory_iterator(golden("checkpoints/tiny-2b")))
        if (const std::string name = file.path().filename();
            !name.starts_with("model") && name != "config.json")
            fs::copy(file.path(), folder.path());
    return {ModelFolder::open(folder.path()), options};
}

// The weights [out, in] as the products see them: what becomes of the unit vectors.
static std::vector<float> weights_of(Engine& e, const Block& block) {
    const int64_t in = block.in, out = block.out;
    Linear alone{{block}, in, out};
    alone.blocks[0].bias = {};
    Tensor unit = make_tensor(DType::f32, {in, in}), seen = make_tensor(DType::f32, {in, out});
    std::fill_n(unit.as<float>(), in * in, 0.0f);
    for (int64_t i = 0; i < in; ++i) unit.as<float>()[i * in + i] = 1;
    linear_into(e.context(), unit, alone, seen);
    std::vector<float> w(size_t(out * in));
    for (int64_t n = 0; n < out; ++n)
        for (int64_t k = 0; k < in; ++k) w[size_t(n * in + k)] = seen.as<float>()[k * out + n];
    return w;
}

TEST(Awq, EveryMatrixIsThatOfTheOriginal) {
    const TemporaryFolder folder;
    Engine e = open_awq(folder, {2, "fp32"});
    const auto expected = read_json(golden("awq/expected.json"))["linears"];
    size_t compared = 0;
    for (const DecoderLayer& layer : e.model().decoder.layers)
        for (const Linear* l : {&layer.qkv, &layer.out, &layer.gate_up, &layer.down})
            for (const Block& block : l->blocks) {
                EXPECT_EQ(block.format, WeightFormat(WeightFormat::int4, 32));
                const std::vector<float> w = weights_of(e, block);
                const std::string name = block.name.substr(0, block.name.rfind('.'));
                EXPECT_EQ(sha256_hex(w.data(), w.size() * sizeof(float)),
                          expected[name]["sha256_dequantised_f32_out_in"])
                    << name;
                ++compared;
            }
    EXPECT_EQ(compared, expected.size());
}

static std::vector<int> choices(const Values& logits) {
    std::vector<int> ids;
    const long width = long(logits.shape.back());
    for (auto row = logits.data.begin(); row != logits.data.end(); row += width)
        ids.push_back(int(std::max_element(row, row + width) - row));
    return ids;
}

TEST(Awq, LogitsAreThoseOfTheOriginal) {
    const TemporaryFolder folder;
    Engine e = open_awq(folder, {2, "fp32"});
    const Expected expected("awq/logits.safetensors");
    const Tiles tiles = tiles_of("rgb_5tiles.png", 1);
    for (const std::string prompt : {"text", "image"}) {
        const std::vector<int> ids = expected.ids(prompt + ".input_ids");
        const Values logits = trace(e, ids, prompt == "image" ? &tiles : nullptr)["text/logits"];
        expect_near(logits.rows({int(ids.size()) - 1}),
                    expected.get(prompt + ".logits_dequant_f32"), 1e-3, prompt);
        EXPECT_EQ(choices(logits), expected.ids(prompt + ".argmax_dequant_f32")) << prompt;
    }
}

// Rows are rounded to bytes before they meet 4-bit weights, which bf16 alone does not do: a row may
// part from fp32 a little more (docs/numerics.md).
TEST(Awq, Bf16IsNear) {
    const TemporaryFolder folder, other;
    Engine e = open_awq(folder, {2, "bf16"}), exact = open_awq(other, {2, "fp32"});
    const Expected expected("awq/logits.safetensors");
    const Tiles tiles = tiles_of("rgb_5tiles.png", 1);
    for (const std::string prompt : {"text", "image"}) {
        const std::vector<int> ids = expected.ids(prompt + ".input_ids");
        const Tiles* seen = prompt == "image" ? &tiles : nullptr;
        const Values logits = trace(e, ids, seen)["text/logits"];
        expect_close(logits, trace(exact, ids, seen)["text/logits"], 0.04, 0.997, prompt);
        const std::vector<int> got = choices(logits),
                               wanted = expected.ids(prompt + ".argmax_dequant_f32");
        size_t agree = 0;
        for (size_t i = 0; i < got.size(); ++i) agree += got[i] == wanted[i];
        EXPECT_GE(agree, got.size() * 9 / 10) << prompt;
    }
}

// Parts that AWQ leaves alone follow --quant, the layers stay as they are.
TEST(Awq, OtherPartsFollowTheOption) {
    const TemporaryFolder folder;
    Engine e = open_awq(folder, {2, "fp32", "int8"});
    const InternVL& m = e.model();
    EXPECT_EQ(m.decoder.layers[0].qkv.blocks[0].format, WeightFormat(WeightFormat::int4, 32));
    EXPECT_EQ(m.decoder.head.blocks[0].format, WeightFormat::int8);
    EXPECT_EQ(m.vision.layers[0].up.blocks[0].format, WeightFormat::int8);
    EXPECT_EQ(m.vision.patch_embedding.blocks[0].format, DType::bf16);
    EXPECT_EQ(e.types().quant.text(), "int4");  // as the word says, whatever the group
}

}  // namespace internvl
