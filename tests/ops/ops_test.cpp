// Every kernel against a naive computation in double precision, for every instruction set of this
// machine; and the rules that a row's bits depend on the row alone (api.md 6.2 R1-R3).
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>

#include "ops/attention_case.h"
#include "tensor/arena.h"

namespace internvl {

static std::vector<Isa> instruction_sets() {
    std::vector<Isa> sets;
    for (int i = 0; i <= int(selected_isa()); ++i) sets.push_back(Isa(i));
    return sets;
}

TEST(Ops, EveryCaseOnEveryInstructionSet) {
    ThreadPool pool(2);
    for (const OpCase& c : op_cases()) {
        const Prepared prepared = c.prepare();
        for (const Isa isa : instruction_sets()) {
            if (c.large && isa != selected_isa()) continue;  // small ones show every path
            prepared.run(cpu_kernels_for(isa), pool);
            EXPECT_LE(prepared.error(), c.tolerance) << c.name << " on " << isa_name(isa);
        }
    }
}

// Bytes of row `row` of a matrix.
static std::vector<char> row_bytes(const View& v, int64_t row) {
    const char* at = static_cast<const char*>(v.data) + row * v.stride[0] * size_of(v.dtype);
    return {at, at + v.dim[1] * size_of(v.dtype)};
}

TEST(RowIndependence, Products) {
    const int64_t in = 96, out = 200, rows = 131;
    for (const Isa isa : instruction_sets())
        for (const auto& [a_type, w_type] : {std::pair(DType::f32, DType::f32),
                                             {DType::f32, DType::bf16},
                                             {DType::f32, DType::f16},
                                             {DType::bf16, DType::bf16}}) {
            const Kernels k = cpu_kernels_for(isa);
            ThreadPool one(1), three(3);
            const Tensor w = random_tensor(w_type, {out, in}, 1),
                         a = random_tensor(a_type, {rows, in}, 2);
            const auto packed = map_memory(size_t(packed_bytes(w_type, out, in)));
            k.pack(w, w_type, packed.get(), one);
            const GemmBlock block{packed.get(), nullptr, out, 0};
            const auto product = [&](const View& x, ThreadPool& pool) {
                Tensor c = make_tensor(a_type, {x.dim[0], out});
                GemmArgs args;
                args.a = x, args.c = c, args.weight_dtype = w_type, args.blocks = &block,
                args.block_count = 1;
                args.activation = Activation::gelu;
                k.gemm(args, pool);
                return c;
            };
            const Tensor all = product(a, three);
            for (const int64_t row : {0, 1, 5, 6, 63, 64, 130}) {
                EXPECT_EQ(row_bytes(product(a.slice(0, row, 1), one), 0), row_bytes(all, row))
                    << isa_name(isa);
                const int64_t first =
                    std::min<int64_t>(row, rows - 4);  // another place in a smaller company
                EXPECT_EQ(row_bytes(product(a.slice(0, first, 4), three), row - first),
                          row_bytes(all, row));
            }
        }
}

// A prompt computed in pieces, at once, or token by token: the same bits.
TEST(RowIndependence, AttentionInPieces) {
    ThreadPool one(1), two(2);
    for (const DType dtype : {DType::f32, DType::bf16})
        for (const Isa isa : instruction_sets()) {
            const Kernels k = cpu_kernels_for(isa);
            AttentionCase whole({2, 3, 32, {{300, 300}}, true}, dtype);
            whole.store(k, two);
            whole.run(k, two);
            const std::vector<char> expected(
                static_cast<char*>(whole.out.data),
                static_cast<char*>(whole.out.data) + whole.out.bytes());
            for (const int64_t piece : {1, 16, 64}) {
                std::memset(whole.out.data, 0, size_t(whole.out.bytes()));
                for (int64_t first = 0; first < 300; first += piece) {
                    const int64_t count = std::min<int64_t>(piece, 300 - first);
                    whole.spans[0].query_begin = first;
                    whole.spans[0].query_count = count;
                    whole.spans[0].key_count = first + count;
                    whole.run(k, one);
                }
                EXPECT_EQ(std::memcmp(whole.out.data, expected.data(), expected.size()), 0)
                    << dtype_name(dtype) << ' ' << isa_name(isa) << " pieces of " << piece;
                whole.spans[0] = {0, 300, 300, whole.tables[0].data()};
            }
        }
}

// Sequences that share a call do not see each other.
TEST(RowIndependence, AttentionInCompany) {
    ThreadPool pool(2);
    const Kernels& k = cpu_kernels();
    AttentionCase together({2, 7, 64, {{3, 40}, {1, 300}, {5, 5}}, true}, DType::bf16);
    together.store(k, pool);
    together.run(k, pool);
    const std::vector<char> expected(static_cast<char*>(together.out.data),
                                     static_cast<char*>(together.out.data) + together.out.bytes());
    const std::vector<AttentionSpan> spans = together.spans;
    std::memset(together.out.data, 0, size_t(together.out.bytes()));
    for (const AttentionSpan& span : spans) {
        together.spans = {span};
        together.run(k, pool);
    }
    EXPECT_EQ(std::memcmp(together.out.data, expected.data(), expected.size()), 0);
}

// exp, by way of the gate, over its whole range; and no NaN from its ends.
TEST(Ops, GateOverTheWholeRange) {
    ThreadPool pool(1);
    for (const Isa isa : instruction_sets()) {
        const int64_t count = 4001;
        Tensor x = make_tensor(DType::f32, {1, 2 * count}), y = make_tensor(DType::f32, {1, count});
        for (int64_t i = 0; i < count; ++i) {
            x.as<float>()[i] = float(i - 2000) * 0.06f;
            x.as<float>()[count + i] = 1;
        }
        cpu_kernels_for(isa).swiglu(x, y, pool);
        for (int64_t i = 0; i < count; ++i) {
            const double g = x.as<float>()[i], exact = g / (1 + std::exp(-g));
            EXPECT_NEAR(y.as<float>()[i], exact, 3e-7 * std::abs(exact) + 1e-30)
                << g << ' ' << isa_name(isa);
        }
    }
}

}  // namespace internvl
