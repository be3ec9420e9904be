// Every stage of the forward pass against what the original implementation computes.
#include "reference.h"

namespace internvl {

static const std::vector<int> shuffled_rows = {0, 1, 2, 3, 252, 253, 254, 255};

INSTANTIATE_TEST_SUITE_P(Every, Golden, every_family, family_name);

static std::vector<int> prompt_of(Reference& of) {
    return expand_ids(of.dialogue("image_one_round")["calls"][0][0]["input_ids"]);
}

TEST_P(Golden, VisionStagesInFp32) {
    const Expected expected = of.tensors();
    const auto tile_rows = of.json()["vision"]["rows"].get<std::vector<int>>();
    const int context = of.json()["img_context_id"];
    const Tiles one = tiles_of("rgb_1tile.png", 12), three = tiles_of("rgb_3tiles.png", 12);
    const std::vector<int> ids[] = {prompt_of(of), std::vector<int>(3 * 256, context)};
    for (const bool single : {true, false}) {
        Stages got = trace(of.engine(), ids[single ? 0 : 1], single ? &one : &three);
        const std::string at = single ? "vision/one/" : "vision/three/";
        for (const std::string stage : {"embeddings", "block0", "last"}) {
            expect_near(got["vision/" + stage].rows(tile_rows), expected.get(at + stage), 1e-4,
                        at + stage);
            if (single && expected.has(at + stage + "_full"))
                expect_near(got["vision/" + stage], expected.get(at + stage + "_full"), 1e-4,
                            at + stage);
        }
        expect_near(got["vision/shuffled"].rows(shuffled_rows), expected.get(at + "shuffled"), 1e-4,
                    at + "shuffled");
        expect_near(got["vision/projected"], expected.get(at + "projected"), 1e-4,
                    at + "projected");
    }
}

TEST_P(Golden, PromptWithAPictureInFp32) {
    const Expected expected = of.tensors();
    const std::vector<int> ids = prompt_of(of);
    const Tiles one = tiles_of("rgb_1tile.png", 12);
    Stages got = trace(of.engine(), ids, &one);
    const auto rows = of.json()["image_prompt"]["rows"].get<std::vector<int>>();
    int compared = 0;
    for (const auto& [stage, values] : got) {
        const std::string name = "image/" + stage.substr(stage.find('/') + 1);
        if (!stage.starts_with("text/") || !expected.has(name)) continue;
        expect_near(values.rows(rows), expected.get(name), 1e-4, stage);
        ++compared;
    }
    EXPECT_GE(compared, 2);
    const std::vector<int> last = {int(ids.size()) - 1};
    expect_near(got["text/after_norm"].rows(last), expected.get("image/after_norm_last"), 1e-4,
                "after_norm");
    expect_near(got["text/logits"].rows(last), expected.get("image/logits_last"), 1e-3, "logits");
}

TEST_P(Golden, TextStagesInFp32) {
    const Expected expected = of.tensors();
    const auto ids = of.json()["short_prompt"]["input_ids"].get<std::vector<int>>();
    EXPECT_EQ(of.engine().tokenizer().encode(of.json()["short_prompt"]["text"].get<std::string>()),
              ids);
    int compared = 0;
    for (const auto& [stage, values] : trace(of.engine(), ids, nullptr)) {
        const std::string name = "short/" + stage.substr(5);
        if (!expected.has(name)) continue;
        expect_near(values, expected.get(name), stage == "text/logits" ? 1e-3 : 1e-4, stage);
        ++compared;
    }
    const int layers = int(of.engine().model().decoder.layers.size());
    EXPECT_EQ(compared, 3 + 3 * layers - 1);  // the last layer's rows are given after the norm only
}

TEST_P(Golden, StagesInBf16) {
    const Expected expected = of.bf16_tensors(), exact = of.tensors();
    const auto tile_rows = of.json()["vision"]["rows"].get<std::vector<int>>();
    const Tiles one = tiles_of("rgb_1tile.png", 12);
    const int context = of.json()["img_context_id"];
    Stages vision = trace(of.engine("bf16"), std::vector<int>(256, context), &one);
    for (const std::string stage : {"embeddings", "block0", "last"})
        expect_close(vision["vision/" + stage].rows(tile_rows), expected.get("vision/one/" + stage),
                     0.02, 0.9995, stage);
    for (const std::string stage : {"shuffled", "projected"})
        expect_close(vision["vision/" + stage].rows(shuffled_rows),
                     expected.get("vision/one/" + stage), 0.02, 0.9995, stage);
    const auto ids = of.json()["short_prompt"]["input_ids"].get<std::vector<int>>();
    Stages text = trace(of.engine("bf16"), ids, nullptr);
    expect_close(text["text/logits"], expected.get("short/logits"), 0.04, 0.998,
                 "logits against bf16");
    expect_close(text["text/logits"], exact.get("short/logits"), 0.04, 0.998,
                 "logits against fp32");
}

// Teacher-forced: where bf16 and fp32 logits of a whole dialogue choose the same token.
TEST_P(Golden, Bf16AgreesWithTheReferencesChoices) {
    int agree = 0, steps = 0;
    for (const auto& d : of.json()["dialogues"]) {
        if (d["kind"] != "chat" || !d["images"].empty() || !d["video"].empty()) continue;
        for (const auto& call : d["calls"]) {
            std::vector<int> ids = expand_ids(call[0]["input_ids"]);
            const auto generated = call[0]["generated"].get<std::vector<int>>();
            const size_t prompt = ids.size();
            ids.insert(ids.end(), generated.begin(), generated.end());
            const Values logits = trace(of.engine("bf16"), ids, nullptr)["text/logits"];
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

}  // namespace internvl
