// Keys and values into the blocks of a cache, as they are or as bytes.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/cache_store.cpp"
#include "ops/cpu/target.h"
//
#include <hwy/cache_control.h>
#include <hwy/foreach_target.h>

#include <algorithm>
#include <cstring>

#include "ops/cpu/encode-inl.h"

HWY_BEFORE_NAMESPACE();
namespace internvl {
namespace HWY_NAMESPACE {

// A value into its line, which holds one token for f32 and pairs of two for bf16; the second of a
// pair joins the first.
static void store_value(const float* value, int64_t count, bool, float* line) {
    std::memcpy(line, value, size_t(count) * sizeof(float));
}
static void store_value(const bf16_t* value, int64_t count, bool second, bf16_t* line) {
    const DU d;
    int64_t i = 0;
    for (; i + lanes <= count; i += lanes) {
        uint32_t* const pairs = reinterpret_cast<uint32_t*>(line + 2 * i);
        const auto bits =
            hn::PromoteTo(d, hn::LoadU(D16(), reinterpret_cast<const uint16_t*>(value + i)));
        const auto first = hn::And(hn::LoadU(d, pairs), hn::Set(d, 0xffff));
        hn::StoreU(second ? hn::Or(first, hn::ShiftLeft<16>(bits)) : bits, d, pairs);
    }
    for (; i < count; ++i) line[2 * i + second] = value[i];
}

// Writes the key and value of tokens [begin, end) of one head into their slots. The first token of
// a block clears the block's values: what an earlier owner left there will be multiplied by zero,
// and zero times infinity is not zero.
template <class T>
static void store_tokens(const CacheStoreArgs& a, int64_t head, int64_t begin, int64_t end) {
    constexpr int64_t pack = sizeof(T) == 2 ? 2 : 1;
    // Rows of tokens lie too far apart for the processor to guess the next.
    constexpr int64_t ahead = 8;
    const CacheView& c = a.cache;
    for (int64_t token = begin; token < end; ++token) {
        const int64_t block = a.slots[token] / cache_block, place = a.slots[token] % cache_block;
        const int64_t start = block * c.block_stride() + head * c.head_stride();
        T* keys = static_cast<T*>(c.keys) + start;
        T* values = static_cast<T*>(c.values) + start;
        const T* key = a.keys.as<T>() + token * a.keys.stride[0] + head * a.keys.stride[1];
        const T* value = a.values.as<T>() + token * a.values.stride[0] + head * a.values.stride[1];
        for (int64_t d = 0; d < a.keys.dim[2]; d += int64_t(64 / sizeof(T))) {
            hwy::Prefetch(key + ahead * a.keys.stride[0] + d);
            hwy::Prefetch(value + ahead * a.values.stride[0] + d);
        }
        if (place == 0) std::memset(static_cast<void*>(values), 0, c.head_stride() * sizeof(T));
        const int64_t used = a.keys.dim[2];
        for (int64_t d = 0; d < used; d += pack)
            std::memcpy(static_cast<void*>(keys + (d * cache_block + place * pack)), key + d,
                        pack * sizeof(T));
        for (int64_t d = used; d < c.head_dim; d += pack)
            std::memset(static_cast<void*>(keys + (d * cache_block + place * pack)), 0,
                        pack * sizeof(T));
        store_value(value, used, place % pack != 0, values + place / pack * c.head_dim * pack);
    }
}

// The same as bytes: each token of a head has a scale, behind the codes of its block.
template <class T>
static void store_codes(const CacheStoreArgs& a, int64_t head, int64_t begin, int64_t end) {
    constexpr int64_t pack = sizeof(T) == 2 ? 2 : 1;
    const CacheView& c = a.cache;
    const int64_t used = a.keys.dim[2];
    for (int64_t token = begin; token < end; ++token) {
        const int64_t block = a.slots[token] / cache_block, place = a.slots[token] % cache_block;
        for (const bool values : {false, true}) {
            const View& from = values ? a.values : a.keys;
            const T* x = from.as<T>() + token * from.stride[0] + head * from.stride[1];
            uint8_t* to = static_cast<uint8_t*>(values ? c.values : c.keys) +
                          block * c.block_stride() + head * c.head_stride();
            if (place == 0) std::memset(to, 0, size_t(c.head_stride()));
            const float scale = largest(x, used) / 127;
            std::memcpy(to + cache_block * c.head_dim + 4 * place, &scale, 4);
            uint8_t codes[64];
            for (int64_t first = 0; first < used; first += 64) {
                const int64_t count = std::min<int64_t>(64, used - first);
                encode(x + first, count, inverse_of(scale), 0, -127, 127, codes);
                for (int64_t i = 0; i < count; ++i) {
                    const int64_t d = first + i;
                    to[values ? (place / pack * c.head_dim + d) * pack + place % pack
                              : (d / pack * cache_block + place) * pack + d % pack] = codes[i];
                }
            }
        }
    }
}

static void cache_store(const CacheStoreArgs& a, ThreadPool& pool) {
    const bool coded = a.cache.dtype == DType::i8, f32 = a.keys.dtype == DType::f32;
    const auto store = coded ? (f32 ? store_codes<float> : store_codes<bf16_t>)
                             : (f32 ? store_tokens<float> : store_tokens<bf16_t>);
    const int64_t tokens = a.keys.dim[0], chunk = 8 * cache_block,
                  chunks = (tokens + chunk - 1) / chunk;
    // Chunks begin where a block begins, so that a block is cleared and filled by one thread, in
    // order.
    const auto border = [&](int64_t token) {
        if (token > 0)
            while (token < tokens && a.slots[token] % cache_block != 0) ++token;
        return std::min(token, tokens);
    };
    pool.parallel_for(a.cache.heads * chunks, 1, [&](int64_t first, int64_t last, int) {
        for (int64_t task = first; task < last; ++task) {
            const int64_t begin = task % chunks * chunk;
            store(a, task / chunks, border(begin), border(begin + chunk));
        }
    });
}

static void fill(Kernels& table) {
    table.cache_store = cache_store;
}

}  // namespace HWY_NAMESPACE
}  // namespace internvl
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace internvl {
void fill_cache_store(Kernels& table, Isa isa) {
    INTERNVL_PICK(isa, fill, table);
}
}  // namespace internvl
#endif
