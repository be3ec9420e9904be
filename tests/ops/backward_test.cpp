// Every backward kernel, by way of the operation that records it.
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cmath>
#include <numeric>

#include "ops/backward_case.h"

namespace internvl {

// --- naive forwards ---

static double gelu(double x) {
    return 0.5 * x * (1 + std::erf(x / std::sqrt(2.0)));
}

// x [rows, in] times w [out, in] -> column `column` on of y [rows, columns]
static void add_product(const Numbers& x, const Numbers& w, int64_t rows, int64_t columns,
                        int64_t column, Numbers& y) {
    const int64_t in = int64_t(x.size()) / rows, out = int64_t(w.size()) / in;
    for (int64_t r = 0; r < rows; ++r)
        for (int64_t n = 0; n < out; ++n)
            for (int64_t k = 0; k < in; ++k)
                y[size_t(r * columns + column + n)] +=
                    x[size_t(r * in + k)] * w[size_t(n * in + k)];
}

static Numbers normed(const Numbers& x, const Numbers& weight, const Numbers* bias) {
    const size_t width = weight.size();
    Numbers y;
    for (size_t row = 0; row < x.size(); row += width) {
        double mean = 0, square = 0;
        for (size_t i = 0; bias && i < width; ++i) mean += x[row + i] / double(width);
        for (size_t i = 0; i < width; ++i) square += std::pow(x[row + i] - mean, 2);
        for (size_t i = 0; i < width; ++i)
            y.push_back((x[row + i] - mean) / std::sqrt(square / double(width) + 1e-6) * weight[i] +
                        (bias ? (*bias)[i] : 0));
    }
    return y;
}

struct Attention {
    int64_t kv_heads, group, dim;
    std::vector<int64_t> runs;
    bool causal;

    int64_t rows() const { return std::accumulate(runs.begin(), runs.end(), int64_t(0)); }
    std::vector<AttentionSpan> spans() const {
        std::vector<AttentionSpan> list;
        int64_t first = 0;
        for (const int64_t n : runs) list.push_back({first, n, n, nullptr}), first += n;
        return list;
    }
    Numbers exact(const Numbers& q, const Numbers& k, const Numbers& v) const {
        Numbers out(q.size());
        for (const AttentionSpan& s : spans())
            for (int64_t i = s.query_begin; i < s.query_begin + s.query_count; ++i)
                for (int64_t h = 0; h < kv_heads * group; ++h) {
                    const int64_t last = causal ? i + 1 : s.query_begin + s.query_count;
                    const size_t at = size_t((i * kv_heads * group + h) * dim);
                    const auto key = [&](int64_t j) {
                        return size_t((j * kv_heads + h / group) * dim);
                    };
                    Numbers p;
                    double total = 0;
                    for (int64_t j = s.query_begin; j < last; ++j) {
                        double score = 0;
                        for (size_t d = 0; d < size_t(dim); ++d) score += q[at + d] * k[key(j) + d];
                        p.push_back(std::exp(score / std::sqrt(double(dim))));
                        total += p.back();
                    }
                    for (int64_t j = s.query_begin; j < last; ++j)
                        for (size_t d = 0; d < size_t(dim); ++d)
                            out[at + d] += p[size_t(j - s.query_begin)] / total * v[key(j) + d];
                }
        return out;
    }
};

// --- cases ---

struct Shape {
    int64_t rows, in;
    std::vector<int64_t> outs;
    bool gelu, scale, residual, adapters;
};

// Inputs: x, then weight and bias of each block, scale and residual where wanted, then both halves
// of each adapter.
static BackwardCase linear_case(const Shape& s) {
    const int64_t columns = std::accumulate(s.outs.begin(), s.outs.end(), int64_t(0)), rank = 4;
    BackwardCase c;
    c.name = fmt::format("linear {}x{}x{}{}{}{}{}", s.rows, s.in, columns, s.gelu ? " gelu" : "",
                         s.scale ? " scale" : "", s.residual ? " residual" : "",
                         s.adapters ? " adapters" : "");
    c.inputs = {{Input::activation, {s.rows, s.in}}};
    for (const int64_t out : s.outs) {
        c.inputs.push_back({Input::weight, {out, s.in}});
        c.inputs.push_back({Input::vector, {out}});
    }
    const size_t scale = c.inputs.size();
    if (s.scale) c.inputs.push_back({Input::vector, {columns}});
    const size_t residual = c.inputs.size();
    if (s.residual) c.inputs.push_back({Input::activation, {s.rows, columns}});
    const size_t adapters = c.inputs.size();
    for (size_t b = 0; s.adapters && b < s.outs.size(); ++b) {
        c.inputs.push_back({Input::weight, {rank, s.in}});
        c.inputs.push_back({Input::weight, {s.outs[b], rank}});
    }
    c.exact = [=](const Inputs& x) {
        Numbers y(size_t(s.rows * columns));
        int64_t column = 0;
        for (size_t b = 0; b < s.outs.size(); column += s.outs[b++]) {
            add_product(x[0], x[1 + 2 * b], s.rows, columns, column, y);
            if (s.adapters) {
                Numbers narrow(size_t(s.rows * rank)), twice;
                add_product(x[0], x[adapters + 2 * b], s.rows, rank, 0, narrow);
                for (const double v : narrow) twice.push_back(2 * v);
                add_product(twice, x[adapters + 2 * b + 1], s.rows, columns, column, y);
            }
            for (int64_t r = 0; r < s.rows; ++r)
                for (int64_t n = 0; n < s.outs[b]; ++n)
                    y[size_t(r * columns + column + n)] += x[2 + 2 * b][size_t(n)];
        }
        for (size_t i = 0; i < y.size(); ++i) {
            if (s.gelu) y[i] = gelu(y[i]);
            if (s.scale) y[i] *= x[scale][i % size_t(columns)];
            if (s.residual) y[i] += x[residual][i];
        }
        return y;
    };
    c.layer = std::make_shared<Linear>();
    c.run = [=, layer = c.layer.get()](Context& ctx, const Leaves& leaves) -> View {
        *layer = {{}, s.in, columns, 0};
        for (size_t b = 0; b < s.outs.size(); ++b) {
            layer->blocks.push_back(leaves[1 + 2 * b].block(leaves[2 + 2 * b].value));
            if (!s.adapters) continue;
            Tensor two = make_tensor(DType::f32, {s.outs[b]});
            std::fill_n(two.as<float>(), s.outs[b], 2.0f);
            const Block down = leaves[adapters + 2 * b].block(),
                        up = leaves[adapters + 2 * b + 1].block();
            layer->blocks.back().adapter = std::make_shared<Adapter>(
                Adapter{{{down}, s.in, rank, 0}, {{up}, rank, s.outs[b], 0}, {}, {}, two});
        }
        Epilogue e;
        if (s.gelu) e.activation = Activation::gelu;
        if (s.scale) e.scale = &leaves[scale].value;
        if (!s.residual) return linear(ctx, leaves[0].value, *layer, e);
        e.residual = leaves[residual].value;  // in place with a scale, else to a new place
        if (!s.scale) return linear(ctx, leaves[0].value, *layer, e);
        linear_into(ctx, leaves[0].value, *layer, e.residual, e);
        return e.residual;
    };
    return c;
}

static std::vector<BackwardCase> linear_cases() {
    std::vector<BackwardCase> list;
    for (const bool adapters : {false, true}) {
        list.push_back(linear_case({7, 10, {5, 66}, false, false, false, adapters}));
        list.push_back(linear_case({3, 16, {67}, true, false, false, adapters}));
        list.push_back(linear_case({5, 12, {34}, false, true, true, adapters}));
        list.push_back(linear_case({5, 12, {9, 9, 3}, false, false, true, adapters}));
    }
    list.push_back(linear_case({71, 130, {140}, true, false, false, false}));
    return list;
}

static std::shared_ptr<Norm> norm_of(const Leaf& weight, const Leaf* bias) {
    return std::make_shared<Norm>(Norm{weight.value, bias ? bias->value : Tensor(), 1e-6f});
}

static std::vector<BackwardCase> norm_cases() {
    std::vector<BackwardCase> list;
    for (const int64_t width : {5, 16, 133}) {
        for (const bool bias : {true, false}) {
            BackwardCase c;
            c.name = fmt::format("{} {}", bias ? "layer norm" : "rms norm", width);
            c.inputs = {{Input::activation, {37, width}}, {Input::vector, {width}}};
            if (bias) c.inputs.push_back({Input::vector, {width}});
            c.exact = [=](const Inputs& x) { return normed(x[0], x[1], bias ? &x[2] : nullptr); };
            auto kept = std::make_shared<Norm>();
            c.run = [=](Context& ctx, const Leaves& leaves) -> View {
                *kept = *norm_of(leaves[1], bias ? &leaves[2] : nullptr);
                return norm(ctx, leaves[0].value, *kept);
            };
            list.push_back(c);
        }
        for (const bool whole_row : {true, false}) {
            BackwardCase c;
            c.name = fmt::format("norm of heads {}{}", width, whole_row ? ", whole row" : "");
            c.inputs = {{Input::activation, {6, 3, width}},
                        {Input::vector, {whole_row ? 3 * width : width}}};
            c.exact = [=](const Inputs& x) { return normed(x[0], x[1], nullptr); };
            auto kept = std::make_shared<Norm>();
            c.run = [=](Context& ctx, const Leaves& leaves) -> View {
                *kept = *norm_of(leaves[1], nullptr);
                norm_heads(ctx, leaves[0].value, *kept);
                return leaves[0].value;
            };
            list.push_back(c);
        }
    }
    return list;
}

static std::vector<BackwardCase> attention_cases() {
    std::vector<BackwardCase> list;
    for (const Attention& a :
         {Attention{2, 3, 16, {5, 1, 20}, true}, Attention{1, 2, 8, {17, 33}, false},
          Attention{2, 1, 34, {50}, false}, Attention{1, 3, 16, {130, 7}, true}}) {
        const int64_t rows = a.rows();
        list.push_back({fmt::format("attention {}x{}x{}, {} rows{}", a.kv_heads, a.group, a.dim,
                                    rows, a.causal ? ", causal" : ""),
                        {{Input::activation, {rows, a.kv_heads, a.group, a.dim}},
                         {Input::activation, {rows, a.kv_heads, a.dim}},
                         {Input::activation, {rows, a.kv_heads, a.dim}}},
                        [=](const Inputs& x) { return a.exact(x[0], x[1], x[2]); },
                        [=](Context& ctx, const Leaves& leaves) -> View {
                            return attention_dense(ctx, leaves[0].value, leaves[1].value,
                                                   leaves[2].value, a.spans(), a.causal);
                        }});
    }
    return list;
}

static BackwardCase swiglu_case(int64_t width) {
    return {
        fmt::format("swiglu {}", width),
        {{Input::activation, {5, 2 * width}}},
        [=](const Inputs& x) {
            Numbers y;
            for (int64_t r = 0; r < 5; ++r)
                for (int64_t i = 0; i < width; ++i) {
                    const double g = x[0][size_t(r * 2 * width + i)];
                    y.push_back(g / (1 + std::exp(-g)) * x[0][size_t((2 * r + 1) * width + i)]);
                }
            return y;
        },
        [](Context& ctx, const Leaves& leaves) -> View { return swiglu(ctx, leaves[0].value); }};
}

static const RopeFrequencies frequencies{{1.0f, 0.3f, 0.1f, 0.03f, 0.01f}, 1.2f};
static const std::vector<int32_t> positions{0, 1, 5, 2};

static BackwardCase rope_case() {
    return {"rope",
            {{Input::activation, {4, 2, 3, 10}}},
            [](const Inputs& x) {
                Numbers y = x[0];
                for (size_t head = 0; head < y.size(); head += 10)
                    for (size_t i = 0; i < 5; ++i) {
                        const double angle = positions[head / 60] * frequencies.inv_freq[i];
                        const double c = std::cos(angle) * 1.2, s = std::sin(angle) * 1.2;
                        const double a = x[0][head + i], b = x[0][head + 5 + i];
                        y[head + i] = a * c - b * s;
                        y[head + 5 + i] = b * c + a * s;
                    }
                return y;
            },
            [](Context& ctx, const Leaves& leaves) -> View {
                const RopeTable table = rope_table(ctx, 4, 10);
                rope_rows(ctx, table, 0, positions, frequencies);
                rope(ctx, leaves[0].value, table);
                return leaves[0].value;
            }};
}

// Rows of a table, one of them twice; then one of the rows gives way to a row from elsewhere.
static BackwardCase gather_case() {
    return {"gather and copy",
            {{Input::activation, {6, 19}}, {Input::activation, {1, 19}}},
            [](const Inputs& x) {
                Numbers y;
                for (const long id : {4, 1, 4, 0})
                    y.insert(y.end(), x[0].begin() + 19 * id, x[0].begin() + 19 * (id + 1));
                std::copy(x[1].begin(), x[1].end(), y.begin() + 19);
                return y;
            },
            [](Context& ctx, const Leaves& leaves) -> View {
                const Tensor rows = gather_rows(ctx, leaves[0].value, std::vector<int>{4, 1, 4, 0});
                copy(ctx, leaves[1].value, rows.slice(0, 1, 1));
                return rows;
            }};
}

static BackwardCase shuffle_case(bool transposed) {
    return {transposed ? "pixel shuffle, transposed" : "pixel shuffle",
            {{Input::activation, {2, 4, 4, 5}}},
            [=](const Inputs& x) {
                Numbers y(x[0].size());
                for (size_t t = 0; t < 2; ++t)
                    for (size_t r = 0; r < 4; ++r)
                        for (size_t c = 0; c < 4; ++c) {
                            const size_t place = transposed ? c / 2 * 2 + r / 2 : r / 2 * 2 + c / 2;
                            const size_t part = r % 2 * 2 + c % 2;
                            for (size_t i = 0; i < 5; ++i)
                                y[((t * 4 + place) * 4 + part) * 5 + i] =
                                    x[0][((t * 4 + r) * 4 + c) * 5 + i];
                        }
                return y;
            },
            [=](Context& ctx, const Leaves& leaves) -> View {
                return pixel_shuffle(ctx, leaves[0].value, transposed);
            }};
}

// A layer that is computed again when backward gets there: x += x * W^T, twice.
static BackwardCase checkpoint_case() {
    BackwardCase c;
    c.name = "checkpointed";
    c.inputs = {{Input::activation, {5, 8}}, {Input::weight, {8, 8}}, {Input::vector, {8}}};
    c.exact = [](const Inputs& x) {
        Numbers y = x[0];
        for (int layer = 0; layer < 2; ++layer) {
            const Numbers before = normed(y, x[2], nullptr);
            add_product(before, x[1], 5, 8, 0, y);
        }
        return y;
    };
    c.layer = std::make_shared<Linear>();
    auto kept = std::make_shared<Norm>();
    c.run = [=, layer = c.layer.get()](Context& ctx, const Leaves& leaves) -> View {
        *layer = {{leaves[1].block()}, 8, 8, 0};
        *kept = *norm_of(leaves[2], nullptr);
        const View x = leaves[0].value;
        for (int n = 0; n < 2; ++n)
            checkpointed(ctx, x, [=](Context& now) {
                linear_into(now, norm(now, x, *kept), *layer, x, {.residual = x});
            });
        return x;
    };
    return c;
}

TEST(Backward, Linear) {
    check_all(linear_cases());
}

TEST(Backward, Norm) {
    check_all(norm_cases());
}

TEST(Backward, Attention) {
    check_all(attention_cases());
}

TEST(Backward, Pointwise) {
    check_all({swiglu_case(4), swiglu_case(50), rope_case()});
}

TEST(Backward, Moves) {
    check_all({gather_case(), shuffle_case(false), shuffle_case(true)});
}

TEST(Backward, LayersComputedAgain) {
    check_all({checkpoint_case()});
}

// Logits are f32 in every model, and the weights are the seed.
TEST(Backward, CrossEntropy) {
    const int64_t rows = 5, vocab = 77;
    const std::vector<int32_t> targets{0, 76, 12, 12, 40};
    const std::vector<float> weights{0.5f, 1, 0, 2, 0.25f};
    for (int isa = 0; isa <= int(selected_isa()); ++isa) {
        ThreadPool pool(2);
        Arena arena;
        Tape tape(arena);
        const Kernels kernels = cpu_kernels_for(Isa(isa));
        Context ctx{kernels, pool, arena, DType::f32};
        ctx.tape = &tape;
        const Leaf logits = make_leaf(ctx, {Input::activation, {rows, vocab}}, 3);
        const Tensor losses = cross_entropy(ctx, logits.value, targets, weights);
        tape.backward(ctx);
        for (int64_t r = 0; r < rows; ++r) {
            double total = 0;
            const float* x = logits.value.as<float>() + r * vocab;
            for (int64_t i = 0; i < vocab; ++i) total += std::exp(double(x[i]));
            EXPECT_NEAR(losses.as<float>()[r], std::log(total) - x[targets[size_t(r)]], 1e-5);
            for (int64_t i = 0; i < vocab; ++i) {
                const double share = std::exp(double(x[i])) / total;
                EXPECT_NEAR(logits.gradient.as<float>()[r * vocab + i],
                            weights[size_t(r)] * (share - (i == targets[size_t(r)])), 1e-6);
            }
        }
    }
}

}  // namespace internvl
