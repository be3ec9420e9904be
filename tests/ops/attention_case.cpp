#include "ops/attention_case.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <numeric>
#include <random>

#include "tensor/arena.h"

namespace internvl {

AttentionCase::AttentionCase(const AttentionShape& s, DType dtype, bool coded) : shape(s) {
    int64_t queries = 0, keys = 0, blocks = 1;  // one block more than needed
    for (const auto& [q_count, k_count] : s.spans) {
        first_key.push_back(keys);
        queries += q_count, keys += k_count, blocks += (k_count + cache_block - 1) / cache_block;
    }
    q = random_tensor(dtype, {queries, s.kv_heads, s.group, s.head_dim}, 1, 2);
    k = random_tensor(dtype, {keys, s.kv_heads, s.head_dim}, 2);
    v = random_tensor(dtype, {keys, s.kv_heads, s.head_dim}, 3);
    seen_k = coded ? as_int8(k.reshape({keys * s.kv_heads, s.head_dim}), 0) : k;
    seen_v = coded ? as_int8(v.reshape({keys * s.kv_heads, s.head_dim}), 0) : v;
    out = make_tensor(dtype, {queries, s.kv_heads, s.group, s.head_dim});
    cache.dtype = coded ? DType::i8 : dtype, cache.heads = s.kv_heads,
    cache.head_dim = padded_head(s.head_dim), cache.blocks = blocks;
    const size_t half = size_t(blocks * cache.block_stride() * size_of(cache.dtype));
    memory = map_memory(2 * half);
    std::fill_n(static_cast<uint8_t*>(memory.get()), 2 * half, uint8_t(0xff));  // NaN in every type
    cache.keys = memory.get();
    cache.values = static_cast<char*>(memory.get()) + half;
    std::vector<int32_t> order(static_cast<size_t>(blocks));
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), std::mt19937(5));
    int64_t query = 0;
    size_t next = 0;
    for (const auto& [q_count, k_count] : s.spans) {
        tables.emplace_back();
        for (int64_t i = 0; i < k_count; ++i) {
            if (i % cache_block == 0) tables.back().push_back(order[next++]);
            slots.push_back(tables.back().back() * int32_t(cache_block) + int32_t(i % cache_block));
        }
        spans.push_back({query, q_count, k_count, nullptr});
        query += q_count;
    }
    for (size_t i = 0; i < spans.size(); ++i) spans[i].block_table = tables[i].data();
}

void AttentionCase::store(const Kernels& kernels, ThreadPool& pool) {
    kernels.cache_store({k, v, cache, slots.data()}, pool);
}

void AttentionCase::run(const Kernels& kernels, ThreadPool& pool) {
    scratch.resize(size_t(attention_scratch(cache) * pool.threads()));
    const float scale = 1 / std::sqrt(float(shape.head_dim));
    kernels.attention(
        {q, out, cache, spans.data(), int(spans.size()), shape.causal, scale, scratch.data()},
        pool);
}

double AttentionCase::error() const {
    double worst = 0;
    const int64_t dim = shape.head_dim, heads = shape.kv_heads;
    for (size_t n = 0; n < spans.size(); ++n) {
        const AttentionSpan& span = spans[n];
        for (int64_t i = 0; i < span.query_count; i += std::max<int64_t>(1, span.query_count / 20))
            for (int64_t h = 0; h < heads * shape.group; ++h) {
                const int64_t visible =
                    shape.causal ? span.key_count - span.query_count + i + 1 : span.key_count;
                const int64_t at = ((span.query_begin + i) * heads * shape.group + h) * dim;
                const auto key = [&](int64_t j) {
                    return ((first_key[n] + j) * heads + h / shape.group) * dim;
                };
                std::vector<double> p(static_cast<size_t>(visible));
                double top = -INFINITY, total = 0;
                for (int64_t j = 0; j < visible; ++j) {
                    double score = 0;
                    for (int64_t d = 0; d < dim; ++d)
                        score += element(q, at + d) * element(seen_k, key(j) + d);
                    top = std::max(top, p[size_t(j)] = score / std::sqrt(double(dim)));
                }
                for (double& x : p) total += x = std::exp(x - top);
                for (int64_t d = 0; d < dim; ++d) {
                    double exact = 0;
                    for (int64_t j = 0; j < visible; ++j)
                        exact += p[size_t(j)] / total * element(seen_v, key(j) + d);
                    const double got = element(out, at + d);
                    worst = std::max(worst, std::isfinite(got)
                                                ? std::abs(got - exact) / (1 + std::abs(exact))
                                                : INFINITY);
                }
            }
    }
    return worst;
}

void add_attention(std::vector<OpCase>& list) {
    const AttentionShape small[] = {
        {1, 1, 16, {{1, 1}}, true},
        {2, 3, 16, {{15, 15}, {1, 16}, {2, 17}}, true},
        {1, 7, 64, {{1, 255}, {1, 256}, {1, 257}, {3, 600}}, true},
        {3, 2, 96, {{33, 33}, {5, 300}}, true},
        {2, 1, 128, {{49, 49}}, true},
        {4, 1, 16, {{1025, 1025}}, false},
        {2, 1, 80, {{16, 16}, {17, 17}}, false},
        {4, 2, 8, {{20, 20}}, true},
        {1, 1, 34, {{3, 70}}, false},
    };
    const AttentionShape real[] = {
        // a tile of the vision tower; a prompt; one token
        {16, 1, 64, {{1025, 1025}}, false},
        {2, 7, 64, {{512, 3328}}, true},
        {2, 7, 64, {{1, 3328}}, true},
    };
    const auto add = [&](const AttentionShape& s, DType t, bool coded, bool large) {
        double flop = 0, bytes = 0;
        for (const auto& [queries, keys] : s.spans) {
            const double seen = double(queries) *
                                (s.causal ? double(keys) - double(queries - 1) / 2 : double(keys));
            flop += 4 * seen * double(s.kv_heads * s.group * s.head_dim);
            bytes += 2.0 * double(keys * s.kv_heads * s.head_dim * size_of(t));
        }
        const auto prepare = [=] {
            auto c = std::make_shared<AttentionCase>(s, t, coded);
            auto stored = std::make_shared<bool>(false);
            const auto run = [=](const Kernels& k, ThreadPool& pool) {
                if (!*stored) c->store(k, pool);
                *stored = true;
                c->run(k, pool);
            };
            return Prepared{run, [=] { return c->error(); }, flop, bytes};
        };
        list.push_back({fmt::format("attention/{}{}/{}x{}x{}/{}q{}k{}", dtype_name(t),
                                    coded ? "xI8" : "", s.kv_heads, s.group, s.head_dim,
                                    s.spans[0].first, s.spans[0].second, s.causal ? "causal" : ""),
                        t, 2 * tolerance_of(t, s.head_dim), prepare, large});
    };
    for (const DType t : {DType::f32, DType::bf16}) {
        for (const bool coded : {false, true}) {
            for (const AttentionShape& s : small) add(s, t, coded, false);
            for (const AttentionShape& s : real)
                if (s.causal || !coded) add(s, t, coded, true);
        }
    }
}

}  // namespace internvl
