// Qwen3: a family by its row, with norms of each head before the rotation.
#include <cmath>

#include "model/families.h"
#include "model/tensors.h"
#include "ops/ops.h"
#include "support.h"
#include "tensor/arena.h"

namespace internvl {

TEST(Qwen3, NamesAndShapes) {
    nlohmann::json config = read_json(golden("checkpoints/tiny-1b/config.json"));
    config["llm_config"]["architectures"] = {"Qwen3ForCausalLM"};
    config["llm_config"]["head_dim"] = 32;  // given: not hidden over heads
    const ModelConfig c = parse_config(config.dump(), "x");
    const DecoderLayerNames names = decoder_layer_names(c, 1);
    EXPECT_EQ(names.q_norm, "language_model.model.layers.1.self_attn.q_norm.weight");
    EXPECT_EQ(names.qkv.biases[0], "");
    int norms = 0;
    for (const TensorSpec& t : expected_tensors(c)) {
        if (t.name == names.qkv.weights[0]) {
            EXPECT_EQ(t.shape, (std::vector<int64_t>{6 * 32, 96}));
        }
        if (t.name != names.q_norm && t.name != names.k_norm) continue;
        EXPECT_EQ(t.shape, std::vector<int64_t>{32});
        ++norms;
    }
    EXPECT_EQ(norms, 2);
}

// A weight as wide as a head norms each head, one as wide as the row the row (design: weights
// speak).
TEST(Qwen3, NormsOfHeadsAndOfRows) {
    ThreadPool pool(2);
    Arena arena;
    Context ctx{cpu_kernels(), pool, arena, DType::f32};
    constexpr int64_t tokens = 5, heads = 3, dim = 8, stride = 2 * heads * dim;
    for (const int64_t width : {dim, heads * dim}) {
        Tensor x = make_tensor(DType::f32, {tokens, stride});
        Norm norm{make_tensor(DType::f32, {width}), {}, 1e-6f};
        for (int64_t i = 0; i < tokens * stride; ++i)
            x.as<float>()[i] = std::sin(float(i * i % 97));
        for (int64_t i = 0; i < width; ++i) norm.weight.as<float>()[i] = 0.5f + float(i) / 10;
        const std::vector<float> before(x.as<float>(), x.as<float>() + tokens * stride);
        View view(x.data, DType::f32, {tokens, heads, dim});
        view.stride[0] = stride;
        norm_heads(ctx, view, norm);
        for (int64_t t = 0; t < tokens; ++t)
            for (int64_t i = 0; i < stride; ++i) {
                double expected = before[size_t(t * stride + i)];
                if (i < heads * dim) {
                    double squares = 0;
                    const int64_t first = t * stride + i / width * width;
                    for (int64_t k = 0; k < width; ++k)
                        squares += std::pow(double(before[size_t(first + k)]), 2);
                    expected *= norm.weight.as<float>()[i % width] /
                                std::sqrt(squares / double(width) + 1e-6);
                }
                EXPECT_NEAR(x.as<float>()[t * stride + i], expected, 1e-5) << t << ' ' << i;
            }
    }
}

}  // namespace internvl
