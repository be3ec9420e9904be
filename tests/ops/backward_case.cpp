#include "ops/backward_case.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <numeric>

namespace internvl {

Leaf make_leaf(Context& ctx, const Input& input, uint64_t seed) {
    const DType dtype = input.kind == Input::vector ? DType::f32 : ctx.activations;
    int64_t count = 1;
    for (const int64_t d : input.shape) count *= d;
    Leaf leaf;
    leaf.value = random_tensor(dtype, {count}, seed, 0.7f);
    static_cast<View&>(leaf.value) = View(leaf.value.data, dtype, input.shape);
    leaf.gradient = make_tensor(DType::f32, {count});
    std::memset(leaf.gradient.data, 0, size_t(leaf.gradient.bytes()));
    View known = leaf.value;
    if (input.kind == Input::weight) {
        const int64_t bytes = packed_bytes(dtype, input.shape[0], input.shape[1]);
        leaf.packed = map_memory(size_t(bytes));
        ctx.kernels.pack(leaf.value, dtype, leaf.packed.get(), ctx.pool);
        known.data = leaf.packed.get();
    }
    ctx.tape->train(known, leaf.gradient);
    return leaf;
}

static double dot(const Numbers& a, const Numbers& b) {
    return std::inner_product(a.begin(), a.end(), b.begin(), 0.0);
}

// Worst distance of a sample of entries from their central differences, by the size of the
// gradient's largest.
static double worst_entry(const BackwardCase& c, Inputs& x, size_t i, const Numbers& seed,
                          const View& got) {
    const size_t count = x[i].size(), step = std::max<size_t>(1, count / 40);
    double worst = 0, most = 1e-3;
    for (size_t n = 0; n < count; n += step) {
        const double before = x[i][n], h = 1e-5;
        x[i][n] = before + h;
        const double above = dot(c.exact(x), seed);
        x[i][n] = before - h;
        const double below = dot(c.exact(x), seed);
        x[i][n] = before;
        const double slope = (above - below) / (2 * h);
        most = std::max(most, std::abs(slope));
        const double off = std::abs(got.as<float>()[n] - slope);
        worst = std::max(worst, std::isfinite(off) ? off : INFINITY);
    }
    return worst / most;
}

static void check(const BackwardCase& c, const Kernels& kernels, DType dtype) {
    ThreadPool pool(2);
    Arena arena;
    Tape tape(arena);
    Context ctx{kernels, pool, arena, dtype};
    ctx.tape = &tape;
    Leaves leaves;
    Inputs x;
    for (const Input& input : c.inputs) {
        leaves.push_back(make_leaf(ctx, input, leaves.size() + 1));
        const View& v = leaves.back().value;
        x.emplace_back();
        for (int64_t i = 0; i < v.size(); ++i) x.back().push_back(element(v, i));
    }
    const View result = c.run(ctx, leaves);
    const Numbers exact = c.exact(x);
    ASSERT_EQ(int64_t(exact.size()), result.size()) << c.name;
    Numbers seed;
    const View root = tape.gradient(result);
    const Tensor random = random_tensor(DType::f32, {result.size()}, 99);
    const double value = dtype == DType::f32 ? 1e-5 : 0.05;
    for (int64_t i = 0; i < result.size(); ++i) {
        EXPECT_NEAR(element(result, i), exact[size_t(i)], value * (1 + std::abs(exact[size_t(i)])))
            << c.name;
        seed.push_back(element(random, i));
        root.as<float>()[i] = float(seed.back());
    }
    tape.backward(ctx);
    for (size_t i = 0; i < leaves.size(); ++i)
        EXPECT_LE(worst_entry(c, x, i, seed, leaves[i].gradient),
                  dtype == DType::f32 ? 2e-5 : 0.015)
            << c.name << ", input " << i << ", " << dtype_name(dtype) << ", "
            << isa_name(kernels.isa);
}

void check_all(const std::vector<BackwardCase>& cases) {
    for (int isa = 0; isa <= int(selected_isa()); ++isa)
        for (const DType dtype : {DType::f32, DType::bf16})
            for (const BackwardCase& c : cases) check(c, cpu_kernels_for(Isa(isa)), dtype);
}

}  // namespace internvl
