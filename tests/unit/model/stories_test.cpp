// A trained model through the decoder: Stories260K (a 260,000-parameter Llama of llama2.c, here
// under Qwen2's names).
#include <cmath>

#include "model/decoder.h"
#include "model/rope.h"
#include "model/weights.h"
#include "support.h"

namespace internvl {

static Decoder load_stories(Context& ctx, Checkpoint& checkpoint) {
    WeightLoader w(ctx, checkpoint, ComputeTypes{});
    Decoder d;
    d.heads = 8, d.kv_heads = 4, d.head_dim = 8;
    for (int n = 0; n < 5; ++n) {
        const std::string at = "model.layers." + std::to_string(n) + ".", self = at + "self_attn.",
                          mlp = at + "mlp.";
        DecoderLayer layer;
        layer.attention_norm = w.norm({at + "input_layernorm.weight", ""}, 1e-5f);
        layer.mlp_norm = w.norm({at + "post_attention_layernorm.weight", ""}, 1e-5f);
        layer.qkv =
            w.linear({{self + "q_proj.weight", self + "k_proj.weight", self + "v_proj.weight"},
                      {self + "q_proj.bias", self + "k_proj.bias", self + "v_proj.bias"}},
                     Role::language);
        layer.out = w.linear({{self + "o_proj.weight"}, {""}}, Role::language);
        layer.gate_up = w.linear({{mlp + "gate_proj.weight", mlp + "up_proj.weight"}, {"", ""}},
                                 Role::language);
        layer.down = w.linear({{mlp + "down_proj.weight"}, {""}}, Role::language);
        d.layers.push_back(std::move(layer));
    }
    d.final_norm = w.norm({"model.norm.weight", ""}, 1e-5f);
    d.head = w.linear({{"model.embed_tokens.weight"}, {""}}, Role::language);
    d.embedding = w.table("model.embed_tokens.weight");
    return d;
}

// Pieces of llama2.c's tokenizer file: longest length, then score, length and bytes of each.
static std::vector<std::string> read_pieces(const std::string& path) {
    const std::string file = read_text(path);
    std::vector<std::string> pieces;
    for (size_t at = 4; at + 8 <= file.size();) {
        int32_t length;
        std::memcpy(&length, file.data() + at + 4, 4);
        pieces.push_back(file.substr(at + 8, size_t(length)));
        at += 8 + size_t(length);
    }
    return pieces;
}

TEST(Stories260K, LogitsAndText) {
    REQUIRE_OUTSIDE("data/models/stories260K");
    const std::string root = outside("data/models/stories260K/");
    const auto expected = read_json(root + "expected.json");
    const std::string wanted = read_text(root + "expected_logits_200x512.f32");
    ThreadPool pool(2);
    Arena arena;
    Context ctx{cpu_kernels(), pool, arena, DType::f32};
    Checkpoint checkpoint(ModelFolder::open(root + "hf_qwen2_zero_bias"));
    const Decoder model = load_stories(ctx, checkpoint);
    TextConfig config;
    config.head_dim = 8;
    const RopeFrequencies rope = rope_frequencies(config, 200);

    const int64_t padded = padded_head(8), blocks = 16;
    std::vector<std::shared_ptr<void>> memory;
    std::vector<CacheView> caches;
    for (int n = 0; n < 5; ++n) {
        const size_t half = size_t(blocks * cache_block * 4 * padded) * sizeof(float);
        memory.push_back(map_memory(2 * half));
        caches.push_back({memory.back().get(), static_cast<char*>(memory.back().get()) + half,
                          DType::f32, 4, padded, blocks});
    }
    std::vector<int32_t> table;
    for (int32_t b = 0; b < blocks; ++b) table.push_back(blocks - 1 - b);
    const auto inputs = expected["input_ids"].get<std::vector<int>>();
    const auto greedy = expected["greedy_next_ids"].get<std::vector<int>>();
    double worst = 0;
    int token = 1;
    std::vector<int> answer;
    for (int32_t t = 0; t < 200; ++t) {
        EXPECT_EQ(token, inputs[size_t(t)]);
        Batch batch;
        batch.positions = {t};
        batch.slots = {table[size_t(t / 16)] * 16 + t % 16};
        batch.spans = {{0, 1, t + 1, table.data()}};
        batch.rope = {&rope};
        batch.logit_rows = {0};
        const Tensor logits =
            model.forward(ctx, gather_rows(ctx, model.embedding, {&token, 1}), batch, caches);
        for (int64_t i = 0; i < 512; ++i) {
            float exact;
            std::memcpy(&exact, wanted.data() + (t * 512 + i) * 4, 4);
            worst = std::max(worst, std::abs(double(logits.as<float>()[i]) - double(exact)));
        }
        token = int(std::max_element(logits.as<float>(), logits.as<float>() + 512) -
                    logits.as<float>());
        EXPECT_EQ(token, greedy[size_t(t)]) << "step " << t;
        answer.push_back(token);
    }
    EXPECT_LE(worst, 1e-4);
    const std::vector<std::string> pieces = read_pieces(root + "tok512.bin");
    std::string text;
    for (const int id : answer) text += pieces[size_t(id)] == "<0x0A>" ? "\n" : pieces[size_t(id)];
    if (text.starts_with(' ')) text.erase(0, 1);
    const std::string published = expected["expected_stdout"];
    EXPECT_EQ(text, published.substr(0, text.size()));
    EXPECT_GT(text.size(), 300u);
}

}  // namespace internvl
