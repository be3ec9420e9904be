#include "model/memory.h"

#include <cstring>
#include <map>
#include <numeric>

#include "base/error.h"
#include "model/cost.h"
#include "model/members.h"
#include "model/rope.h"
#include "model/tensors.h"
#include "support.h"

namespace internvl {

static const ModelConfig& config_of(const char* name) {
    static std::map<std::string, ModelConfig> parsed;
    const auto [at, fresh] = parsed.try_emplace(name);
    if (fresh) at->second = find_member(name)->parsed();
    return at->second;
}

TEST(Cost, IsThatOfTheSpecification) {
    const ModelConfig &small = config_of("internvl2-1b"), &large = config_of("internvl2-26b");
    // TFLOP of a tile; the projector's GFLOP come on top (spec 3.7)
    EXPECT_NEAR(vision_gflop(small, 1).all(), 724 + 2.3, 1);
    EXPECT_NEAR(vision_gflop(large, 1).all(), 11940 + 59.6, 10);
    EXPECT_NEAR(vision_gflop(config_of("internvl2-76b"), 13).all(), 13 * (11940 + 88), 100);
    const std::pair<const char*, double> per_token[] = {
        {"internvl2-1b", 0.99}, {"internvl2-2b", 3.4},   {"internvl2-4b", 7.4},
        {"internvl2-8b", 14.7}, {"internvl2-26b", 38.6}, {"internvl2-40b", 67.9},
        {"internvl2-76b", 139}};
    for (const auto& [name, gflop] : per_token)
        EXPECT_NEAR(decode_gflop(config_of(name).text, 0), gflop, 0.01 * gflop) << name;
}

TEST(Cost, OfAPromptIsTheSumOfItsTokens) {
    const TextConfig& t = config_of("internvl2-2b").text;
    double sum = 0;
    const double head = 2e-9 * double(t.hidden * t.vocab);
    for (int n = 0; n < 100; ++n) sum += decode_gflop(t, n) - head;
    EXPECT_NEAR(prefill_gflop(t, 100).all(), sum + head, 1e-3 * sum);
}

TEST(Cost, ReadsWeightsOnceForAllUsers) {
    const ModelConfig& c = config_of("internvl2-8b");
    const double cache = 1e-9 * 131072 * 1000;  // spec 0.3
    const int64_t bytes = language_bytes(c, {DType::bf16, DType::bf16}),
                  each = cache_bytes(c.text, DType::bf16);
    const double one = decode_gb(1000, 1, bytes, each), weights = one - cache;
    EXPECT_NEAR(weights, 2e-9 * (7737782272 - 92553.0 * 4096), 0.01);
    EXPECT_NEAR(decode_gb(1000, 8, bytes, each), weights + 8 * cache, 1e-6);
}

// The card's table (spec 8.3).
TEST(GpuSplit, IsTheCards) {
    using Row = std::vector<int64_t>;
    const std::map<int64_t, std::vector<Row>> table = {
        {24, {{24}, {9, 15}, {6, 10, 8}, {5, 7, 7, 5}, {3, 4, 4, 4, 4, 4, 1, 0}}},
        {32, {{32}, {12, 20}, {8, 13, 11}, {6, 10, 10, 6}, {4, 5, 5, 5, 5, 5, 3, 0}}},
        {48, {{48}, {17, 31}, {11, 20, 17}, {8, 14, 14, 12}, {5, 7, 7, 7, 7, 7, 7, 1}}},
        {60, {{60}, {21, 39}, {13, 24, 23}, {10, 18, 18, 14}, {5, 8, 8, 8, 8, 8, 8, 7}}},
        {80, {{80}, {28, 52}, {17, 32, 31}, {13, 23, 23, 21}, {7, 11, 11, 11, 11, 11, 11, 7}}}};
    for (const Member& member : members()) {
        const ModelConfig c = member.parsed();
        const int64_t all = count_parameters(c).total;
        for (const Row& row : table.at(c.text.layers)) {
            Row layers;
            int64_t parameters = 0;
            for (const GpuShare& share : split_over_gpus(c, int(row.size()))) {
                layers.push_back(share.layers);
                parameters += share.parameters;
            }
            EXPECT_EQ(layers, row) << member.name;
            EXPECT_EQ(parameters, all) << member.name;
        }
    }
}

// A tiny model that is loaded and run, with what it holds then.
struct Loaded {
    explicit Loaded(const std::string& name, const ComputeTypes& compute_types)
        : types(compute_types),
          checkpoint(ModelFolder::open(golden("checkpoints/" + name))),
          config(parse_config(read_text(golden("checkpoints/" + name + "/config.json")), name)) {
        ctx.activations = types.activations;
        model = load_model(ctx, checkpoint, config, types);
    }

    int64_t weights() const {
        int64_t bytes = 0;
        const auto vector = [&](const Tensor& t) {
            if (t) bytes += t.bytes() * size_of(DType::f32) / size_of(t.dtype);
        };
        const auto norm = [&](const Norm& n) { vector(n.weight), vector(n.bias); };
        const auto linear = [&](const Linear& l) {
            for (const Block& b : l.blocks) {
                bytes += (packed_bytes(b.format, b.out, b.in) + 63) / 64 * 64;
                vector(b.bias);
            }
        };
        const auto products = [&](const auto& layer) {
            for (const Linear* l : {&layer.qkv, &layer.out, &layer.down}) linear(*l);
            for (const Norm* n :
                 {&layer.attention_norm, &layer.mlp_norm, &layer.q_norm, &layer.k_norm})
                norm(*n);
        };
        const Vision& v = model.vision;
        for (const Linear* l : {&v.patch_embedding, &v.projector_in, &v.projector_out}) linear(*l);
        for (const Tensor* t : {&v.first_row, &v.first_row, &v.positions}) vector(*t);
        norm(v.projector_norm);
        for (const VisionLayer& layer : v.layers) {
            products(layer), linear(layer.up);
            vector(layer.attention_scale), vector(layer.mlp_scale);
        }
        for (const DecoderLayer& layer : model.decoder.layers)
            products(layer), linear(layer.gate_up);
        norm(model.decoder.final_norm);
        linear(model.decoder.head);
        return bytes;
    }

    // Two tiles, then their tokens.
    void run() {
        const Tensor pixels = arena.get(types.activations, {2, 3, 448, 448});
        std::memset(pixels.data, 0, size_t(pixels.bytes()));
        const Tensor rows = model.vision.forward(ctx, pixels);
        const int64_t tokens = rows.dim[0], heads = config.text.kv_heads,
                      padded = padded_head(config.text.head_dim);
        std::vector<int32_t> table(size_t(tokens / cache_block));
        std::iota(table.begin(), table.end(), 0);
        std::vector<CacheView> caches;
        const int64_t half = tokens * heads * padded * size_of(types.activations);
        for (int64_t n = 0; n < config.text.layers; ++n) {
            cache.push_back(map_memory(size_t(2 * half)));
            caches.push_back({cache.back().get(), static_cast<char*>(cache.back().get()) + half,
                              types.activations, heads, padded, tokens / cache_block});
        }
        const RopeFrequencies rope = rope_frequencies(config.text, tokens);
        Batch batch;
        batch.positions.resize(size_t(tokens));
        std::iota(batch.positions.begin(), batch.positions.end(), 0);
        batch.slots = batch.positions;
        batch.spans = {{0, tokens, tokens, table.data()}};
        batch.rope = {&rope};
        batch.logit_rows = {int(tokens - 1)};
        model.decoder.forward(ctx, rows, batch, caches);
        EXPECT_EQ(2 * half * config.text.layers,
                  tokens * cache_bytes(config.text, types.activations));
    }

    ComputeTypes types;
    ThreadPool pool{2};
    Arena arena;
    Context ctx{cpu_kernels(), pool, arena, DType::f32};
    Checkpoint checkpoint;
    ModelConfig config;
    InternVL model;
    std::vector<std::shared_ptr<void>> cache;
};

TEST(Memory, IsWhatALoadedModelHolds) {
    const ComputeTypes bf16{DType::bf16, DType::bf16}, fp16{DType::f32, DType::f16}, fp32{};
    for (const char* name : {"tiny-1b", "tiny-2b", "tiny-4b", "tiny-26b", "tiny-40b"})
        for (const ComputeTypes& types : {bf16, fp16, fp32}) {
            Loaded l(name, types);
            EXPECT_EQ(weight_bytes(l.config, types), l.weights()) << name << ' ' << types.name();
            l.run();
            const int64_t held = l.arena.held_bytes();
            const int64_t counted = activation_bytes(l.config, types.activations, 512, 2);
            // Pages and small buffers weigh more here than in a real model.
            EXPECT_LT(double(held), 1.1 * double(counted)) << name << ' ' << types.name();
            EXPECT_GT(double(held), 0.6 * double(counted)) << name << ' ' << types.name();
        }
}

TEST(Memory, OfTheCacheIsThatOfTheSpecification) {
    const std::pair<const char*, int64_t> per_token[] = {
        {"internvl2-1b", 12'288},  {"internvl2-2b", 98'304},   {"internvl2-4b", 393'216},
        {"internvl2-8b", 131'072}, {"internvl2-26b", 196'608}, {"internvl2-40b", 245'760},
        {"internvl2-76b", 327'680}};
    for (const auto& [name, bytes] : per_token)
        EXPECT_EQ(cache_bytes(config_of(name).text, DType::bf16), bytes) << name;
}

TEST(Memory, QuantisedWeightsAreSmaller) {
    const ModelConfig& c = config_of("internvl2-40b");
    const int64_t full = weight_bytes(c, {DType::bf16, DType::bf16});
    const int64_t layers = 33'500'000'000;  // about, of the language model
    const int64_t all = count_parameters(c).total - c.text.vocab * c.text.hidden;
    const auto saved = [&](Quant quant) {
        return double(full - weight_bytes(c, {DType::bf16, DType::bf16, quant}));
    };
    EXPECT_NEAR(saved(Quant::int8), double(all), 0.01 * double(all));
    EXPECT_NEAR(saved(Quant::int4) - saved(Quant::int8), 0.45 * double(layers),
                0.04 * double(layers));
}

TEST(MemoryCheck, SaysWhatIsNeededWhatThereIsAndWhatWouldFit) {
    const ModelConfig& c = config_of("internvl2-8b");
    const ComputeTypes bf16{DType::bf16, DType::bf16};
    memory_check(c, bf16, "folder", int64_t(20) << 30);
    const auto error = [&](const ModelConfig& config, const ComputeTypes& types,
                           int64_t available) {
        try {
            memory_check(config, types, "folder", available);
        } catch (const Error& e) {
            return std::string(e.what());
        }
        return std::string("no error");
    };
    const std::string text = error(c, bf16, int64_t(6) << 30);
    for (const char* part : {"the model does not fit in memory", "free for it as bf16",
                             "6.0 GiB available", "--quant int4 needs", "(folder)"})
        EXPECT_NE(text.find(part), text.npos) << text;
    EXPECT_NE(error(c, bf16, int64_t(4800) << 20).find("internvl2-2b needs"), std::string::npos);
    EXPECT_EQ(error(c, bf16, 1000).find("needs"), std::string::npos);
    ModelConfig filed_as_fp32 = c;
    filed_as_fp32.dtype = DType::f32;
    EXPECT_NE(error(filed_as_fp32, {}, int64_t(20) << 30).find("--dtype bf16 needs"),
              std::string::npos);
}

}  // namespace internvl
