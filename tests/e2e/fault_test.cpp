// A planted fault: one weight of each stage is changed, and `verify` names that stage.
#include <cstring>
#include <filesystem>

#include "program.h"

namespace internvl {

namespace fs = std::filesystem;

// Sets the first bf16 value of every row of a tensor to 3, in place.
static void plant(const std::string& file, const std::string& tensor) {
    std::fstream io(file, std::ios::in | std::ios::out | std::ios::binary);
    uint64_t length = 0;
    io.read(reinterpret_cast<char*>(&length), 8);
    std::string header(length, ' ');
    io.read(header.data(), long(length));
    const auto entry = nlohmann::json::parse(header).at(tensor);
    const int64_t begin = int64_t(8 + length) + entry["data_offsets"][0].get<int64_t>();
    const int64_t rows = entry["shape"][0], bytes = entry["data_offsets"][1].get<int64_t>() -
                                                    entry["data_offsets"][0].get<int64_t>();
    const uint16_t three = 0x4040;
    for (int64_t row = 0; row < rows; ++row) {
        io.seekp(begin + row * (bytes / rows));
        io.write(reinterpret_cast<const char*>(&three), 2);
    }
    ASSERT_TRUE(io.good()) << tensor;
}

static void expect_found(const std::string& family,
                         const std::vector<std::pair<std::string, std::string>>& faults) {
    const std::string original = golden("checkpoints/" + family);
    const std::string picture = golden("media/rgb_1tile.png");
    const TemporaryFolder folder;
    const std::string expected = folder / "expected.safetensors";
    ASSERT_EQ(run_program({"trace", original, "-i", picture, "-p", "What is this?", "--dtype",
                           "fp32", "--out", expected})
                  .status,
              0);
    const Outcome same = run_program({"verify", original, expected, "-i", picture});
    EXPECT_EQ(same.status, 0) << same.out << same.err;
    for (const auto& [tensor, stage] : faults) {
        const std::string copy = folder / "copy";
        fs::remove_all(copy);
        fs::copy(original, copy);
        fs::permissions(copy + "/model.safetensors", fs::perms::owner_all);
        plant(copy + "/model.safetensors", tensor);
        const Outcome o = run_program({"verify", copy, expected, "-i", picture});
        EXPECT_EQ(o.status, 1) << tensor;
        EXPECT_NE(o.out.find("first difference: " + stage + "\n"), std::string::npos)
            << tensor << " should show in " << stage << ":\n"
            << o.out;
    }
}

TEST(Verify, NamesTheStageOfAPlantedFault) {
    const std::string layer = "language_model.model.layers.1.";
    expect_found("tiny-1b",
                 {{"vision_model.embeddings.patch_embedding.weight", "vision/embeddings"},
                  {"vision_model.embeddings.position_embedding", "vision/embeddings"},
                  {"vision_model.encoder.layers.0.attn.qkv.weight", "vision/block0"},
                  {"vision_model.encoder.layers.1.mlp.fc1.weight", "vision/block1"},
                  {"vision_model.encoder.layers.2.ls2", "vision/block2"},
                  {"mlp1.1.weight", "vision/projected"},
                  {"language_model.model.embed_tokens.weight", "text/embeddings"},
                  {layer + "self_attn.k_proj.weight", "text/keys1"},
                  {layer + "self_attn.v_proj.bias", "text/values1"},
                  {layer + "self_attn.q_proj.weight", "text/after_layer1"},
                  {layer + "mlp.down_proj.weight", "text/after_layer1"},
                  {"language_model.model.norm.weight", "text/after_norm"},
                  {"language_model.lm_head.weight", "text/logits"}});
}

TEST(Verify, NamesTheStageInOtherFamilies) {
    const std::string layer = "language_model.model.layers.0.";
    expect_found("tiny-26b", {{"vision_model.encoder.layers.1.attn.q_norm.weight", "vision/block1"},
                              {layer + "attention.wqkv.weight", "text/keys0"},
                              {layer + "feed_forward.w3.weight", "text/after_layer0"},
                              {"language_model.output.weight", "text/logits"}});
    expect_found("tiny-4b", {{layer + "mlp.gate_up_proj.weight", "text/after_layer0"},
                             {layer + "self_attn.qkv_proj.weight", "text/keys0"}});
}

}  // namespace internvl
