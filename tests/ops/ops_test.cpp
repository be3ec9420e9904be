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
        for (const auto& [a_type, format] : {std::pair<DType, WeightFormat>(DType::f32, DType::f32),
                                             {DType::f32, DType::bf16},
                                             {DType::f32, DType::f16},
                                             {DType::bf16, DType::bf16},
                                             {DType::f32, WeightFormat::int8},
                                             {DType::bf16, WeightFormat::int8},
                                             {DType::f32, {WeightFormat::int4, 32}},
                                             {DType::bf16, {WeightFormat::int4, 32}}}) {
            const WeightFormat f = format;
            const Kernels k = cpu_kernels_for(isa);
            ThreadPool one(1), three(3);
            const Tensor w = random_tensor(f.dtype, {out, in}, 1),
                         a = random_tensor(a_type, {rows, in}, 2);
            const auto packed = map_memory(size_t(packed_bytes(f, out, in)));
            k.pack(w, f, packed.get(), one);
            const GemmBlock block{packed.get(), nullptr, out, 0};
            const auto product = [&, a_type = a_type](const View& x, ThreadPool& pool) {
                Tensor c = make_tensor(a_type, {x.dim[0], out});
                GemmArgs args;
                args.a = x, args.c = c, args.in = in, args.format = f, args.blocks = &block,
                args.block_count = 1;
                args.activation = Activation::gelu;
                RowCodes codes(args);
                codes.make(k, pool, args);
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

// Weights become the same bytes on every instruction set, and their codes those bytes again.
TEST(Pack, IsTheSameEverywhere) {
    const int64_t in = 192, out = 100, groups = in / 64;
    ThreadPool pool(2);
    const Tensor w = random_tensor(DType::bf16, {out, in}, 1);
    for (const WeightFormat& f : {WeightFormat(WeightFormat::int8), {WeightFormat::int4, 64}}) {
        const int64_t bytes = packed_bytes(f, out, in);
        std::vector<char> expected(static_cast<size_t>(bytes)), got = expected, again = expected;
        cpu_kernels().pack(w, f, expected.data(), pool);
        for (const Isa isa : instruction_sets()) {
            cpu_kernels_for(isa).pack(w, f, got.data(), pool);
            EXPECT_EQ(got, expected) << isa_name(isa);
        }
        // The codes, found again in what they stand for.
        const bool int4 = f.kind == WeightFormat::int4;
        const Tensor value = int4 ? as_int4(w, 64) : as_int8(w, 0);
        std::vector<uint8_t> codes(size_t(out * in)), zero(size_t(out * groups));
        std::vector<float> scale(size_t(int4 ? out * groups : out));
        for (int64_t n = 0; n < out; ++n)
            for (int64_t k = 0; k < in; ++k) {
                const char* header = expected.data() + n / 64 * packed_bytes(f, 64, in) +
                                     (int4 ? k / 64 * (packed_bytes(f, 64, in) / groups) : 0);
                const size_t at = size_t(int4 ? n * groups + k / 64 : n);
                f16_t half;
                std::memcpy(&half, header + 2 * (n % 64), 2);
                std::memcpy(&scale[at], header + 4 * (n % 64), 4);
                if (int4) {
                    scale[at] = to_float(half);
                    zero[at] = uint8_t(header[128 + n % 64]);
                }
                codes[size_t(n * in + k)] =
                    uint8_t(std::lround(value.as<float>()[n * in + k] / scale[at]) + zero[at]);
            }
        cpu_kernels().pack_codes({out, in, codes.data(), scale.data(), zero.data()}, f,
                                 again.data(), pool);
        EXPECT_EQ(again, expected);
    }
}

// A prompt computed in pieces, at once, or token by token: the same bits.
TEST(RowIndependence, AttentionInPieces) {
    ThreadPool one(1), two(2);
    for (const auto& [dtype, coded] : {std::pair(DType::f32, false),
                                       {DType::bf16, false},
                                       {DType::f32, true},
                                       {DType::bf16, true}})
        for (const Isa isa : instruction_sets()) {
            const Kernels k = cpu_kernels_for(isa);
            AttentionCase whole({2, 3, 32, {{300, 300}}, true}, dtype, coded);
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
