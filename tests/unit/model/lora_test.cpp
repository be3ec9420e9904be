#include "model/lora.h"

#include "base/digest.h"
#include "base/error.h"
#include "model/tensors.h"
#include "support.h"

namespace internvl {

static View view_of(const TensorEntry& e) {
    return {const_cast<std::byte*>(e.bytes.data()), e.dtype, e.shape};
}

// golden: each weight that the reference merged, hash by hash.
TEST(Lora, MergesAsTheReference) {
    for (const char* name : {"tiny-1b", "tiny-2b"}) {
        const std::string root = golden("lora/" + std::string(name) + "/");
        Checkpoint checkpoint(ModelFolder::open(root + "repository_style"));
        unwrap_adapters(checkpoint);
        check_tensors(checkpoint,
                      parse_config(read_text(root + "repository_style/config.json"), name));
        int compared = 0;
        const auto expected = read_json(root + "expected.json");
        for (const auto& [weight, merged] : expected["merged"].items()) {
            const AdapterEntries a = find_adapter(checkpoint, weight);
            ASSERT_TRUE(a.down && a.up && checkpoint.find(weight)) << weight;
            const Tensor got =
                merge_adapter(view_of(*checkpoint.find(weight)), view_of(*a.down), view_of(*a.up));
            EXPECT_EQ(sha256_hex(got.data, size_t(got.bytes())), merged["sha256_bf16"]) << weight;
            ++compared;
        }
        EXPECT_GE(compared, 15);
    }
}

TEST(Lora, AnAdapterThatDoesNotFitIsNamed) {
    const std::string root = golden("lora/tiny-1b/repository_style");
    Checkpoint checkpoint(ModelFolder::open(root));
    unwrap_adapters(checkpoint);
    nlohmann::json config = read_json(root + "/config.json");
    config["llm_config"]["intermediate_size"] = 162;
    try {
        check_tensors(checkpoint, parse_config(config.dump(), "x"));
        FAIL();
    } catch (const Error& e) {
        EXPECT_NE(std::string(e.what()).find("the adapter of"), std::string::npos) << e.what();
    }
}

}  // namespace internvl
