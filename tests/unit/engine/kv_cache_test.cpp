// Who holds which cache block, what is remembered, and what it is called.
#include "engine/kv_cache.h"

#include <algorithm>
#include <deque>
#include <map>
#include <random>

#include "engine/prefix_names.h"
#include "support.h"

namespace internvl {

static DigestKey key_of(int content) {
    return Digest().update(&content, sizeof content).key();
}

// The same in the plainest way: lists that are searched.
struct PlainPool {
    struct Block {
        int holders = 0, content = 0;
        bool named = false, used = false;
    };
    std::vector<Block> blocks;
    std::deque<int32_t> given_back;  // named, without holders, the first one first

    explicit PlainPool(int size) : blocks(size_t(size)) {}
    int count(auto what) const { return int(std::ranges::count_if(blocks, what)); }
    int32_t named(int content) const {
        for (size_t b = 0; b < blocks.size(); ++b)
            if (blocks[b].named && blocks[b].content == content) return int32_t(b);
        return -1;
    }
};

static void take(BlockPool& pool, PlainPool& plain, int content) {
    const bool nameless = plain.count([](const auto& b) { return !b.holders && !b.named; }) > 0;
    const int32_t got = pool.take();
    auto& block = plain.blocks[size_t(got)];
    ASSERT_EQ(block.holders, 0);
    if (nameless) {
        ASSERT_FALSE(block.named) << "a name was lost without need";
        const bool fresh =
            plain.count([](const auto& b) { return !b.holders && b.used && !b.named; });
        ASSERT_TRUE(block.used || !fresh) << "memory was touched without need";
    } else {
        ASSERT_EQ(got, plain.given_back.front());
        plain.given_back.pop_front();
    }
    block = {1, content, false, true};
}

static void compare(const BlockPool& pool, const PlainPool& plain, int contents) {
    const int held = plain.count([](const auto& b) { return b.holders > 0; });
    ASSERT_EQ(pool.available(), int64_t(plain.blocks.size()) - held);
    ASSERT_EQ(pool.idle(), plain.count([](const auto& b) { return b.used && !b.holders; }));
    ASSERT_TRUE(std::ranges::equal(pool.remembered(), plain.given_back));
    for (int c = 0; c < contents; ++c)  // the index never points at changed content
        ASSERT_EQ(pool.find(key_of(c)).value_or(-1), plain.named(c));
}

TEST(BlockPool, IsThePlainOne) {
    std::mt19937 random(7);
    for (int round = 0; round < 20; ++round) {
        const int size = 1 + int(random() % 12), contents = 1 + int(random() % 20);
        BlockPool pool(size);
        PlainPool plain(size);
        for (int step = 0; step < 500; ++step) {
            const int content = int(random() % unsigned(contents));
            const int32_t b = int32_t(random() % unsigned(size));
            auto& block = plain.blocks[size_t(b)];
            const int32_t known = plain.named(content);
            switch (random() % 4) {
                case 0:
                    if (pool.available() > 0) take(pool, plain, content);
                    break;
                case 1:
                    if (known < 0) break;
                    pool.hold(known);
                    if (plain.blocks[size_t(known)].holders++ == 0)
                        std::erase(plain.given_back, known);
                    break;
                case 2:
                    if (block.holders == 0) break;
                    pool.give_back(b);
                    if (--block.holders == 0 && block.named) plain.given_back.push_back(b);
                    break;
                case 3:
                    if (block.holders == 0 || block.named) break;
                    pool.name(b, key_of(block.content));
                    block.named = plain.named(block.content) < 0;
            }
            compare(pool, plain, contents);
            if (HasFatalFailure()) return;
        }
    }
}

// What the decoder would store: here a block holds the number that its name is made of.
static int& content_of(const KvCache& cache, int32_t block, bool value) {
    const CacheView& last = cache.layers().back();
    char* const half = static_cast<char*>(value ? last.values : last.keys);
    return *reinterpret_cast<int*>(half + block * last.block_stride() * size_of(last.dtype));
}

// Sequences over few words, so that many begin alike; two at a time, in a cache that is exchanged
// for larger and smaller ones.
TEST(KvCache, FindsWhatWasStored) {
    std::mt19937 random(11);
    auto cache = std::make_unique<KvCache>(2, 1, 16, DType::f32, 10 * cache_block);
    struct Running {
        std::vector<int> contents;  // of its blocks: what the prefix up to there is
        std::vector<int32_t> blocks;
    };
    std::deque<Running> running;
    int found = 0, made = 0;
    for (int step = 0; step < 3000; ++step) {
        if (running.size() == 2 || (random() % 3 == 0 && !running.empty())) {
            cache->give_back(running.front().blocks);
            running.pop_front();
            if (running.empty() && step % 7 == 0) {
                EXPECT_EQ(cache->free_tokens(), cache->max_tokens());
                const int64_t blocks = 10 + random() % 20;
                auto other = std::make_unique<KvCache>(2, 1, 16, DType::f32, blocks * cache_block);
                other->adopt(*cache);
                EXPECT_EQ(other->free_tokens(), other->max_tokens());
                cache = std::move(other);
            }
            continue;
        }
        Running r;
        std::vector<DigestKey> names;
        for (size_t n = 1 + random() % 5, content = 0; n-- > 0;) {
            content = content * 3 + 1 + random() % 3;
            r.contents.push_back(int(content));
            names.push_back(key_of(int(content)));
        }
        r.blocks = cache->hold_known(names);
        const size_t known = r.blocks.size();
        const auto own = cache->take(int64_t(names.size() - known) * cache_block);
        r.blocks.insert(r.blocks.end(), own.begin(), own.end());
        for (size_t i = 0; i < names.size(); ++i) {
            for (const bool value : {false, true}) {
                int& content = content_of(*cache, r.blocks[i], value);
                if (i >= known) content = r.contents[i];
                ASSERT_EQ(content, r.contents[i]) << step;
            }
            if (i >= known) cache->name(r.blocks[i], names[i]);
        }
        found += int(known), made += int(own.size());
        running.push_back(std::move(r));
    }
    EXPECT_GT(found, 1000);
    EXPECT_GT(made, 300);
}

TEST(KvCache, AdoptsTheLatest) {
    KvCache large(1, 1, 16, DType::f32, 8 * cache_block),
        small(1, 1, 16, DType::f32, 2 * cache_block);
    for (int c = 0; c < 5; ++c) {
        const auto block = large.take(1);
        large.name(block[0], key_of(c));
        large.give_back(block);
    }
    small.adopt(large);
    for (int c = 0; c < 5; ++c) {
        const DigestKey name = key_of(c);
        EXPECT_EQ(small.hold_known({&name, 1}).size(), size_t(c >= 3)) << c;
    }
}

// A chain's end is forgotten before its beginning.
TEST(KvCache, ForgetsFromTheEnd) {
    KvCache cache(1, 1, 16, DType::f32, 4 * cache_block);
    const std::vector<DigestKey> names = {key_of(0), key_of(1), key_of(2), key_of(3)};
    const auto blocks = cache.take(4 * cache_block);
    for (size_t i = 0; i < 4; ++i) cache.name(blocks[i], names[i]);
    cache.give_back(blocks);
    for (size_t left = 4; left-- > 1;) {
        cache.take(1);
        const auto known = cache.hold_known(names);
        EXPECT_EQ(known.size(), left);
        cache.give_back(known);
    }
}

static std::vector<DigestKey> names_of(std::vector<int> ids, float frequency = 1,
                                       const std::map<int, std::pair<int, int>>& pictures = {}) {
    PrefixNames names(RopeFrequencies{{frequency, 0.5f}});
    for (size_t i = 0; i < ids.size(); ++i) {
        const auto p = pictures.find(int(i));
        if (p == pictures.end())
            names.append(ids[i]);
        else
            names.append(ids[i], key_of(p->second.first), p->second.second);
    }
    return names.names();
}

TEST(PrefixNames, SayAllThatABlockFollowsFrom) {
    std::vector<int> ids(50);
    for (int i = 0; i < 50; ++i) ids[size_t(i)] = i;
    const auto names = names_of(ids);
    ASSERT_EQ(names.size(), 3u);
    EXPECT_EQ(names_of(ids), names);
    std::vector<int> other = ids;
    other[17] = 0;
    EXPECT_EQ(names_of(other)[0], names[0]);
    EXPECT_NE(names_of(other)[1], names[1]);
    EXPECT_NE(names_of(other)[2], names[2]);  // all that came before
    EXPECT_NE(names_of(ids, 2)[0], names[0]);
    const auto picture = [&](int tile, int row) { return names_of(ids, 1, {{5, {tile, row}}})[0]; };
    EXPECT_NE(picture(1, 0), names[0]);
    EXPECT_NE(picture(1, 0), picture(2, 0));
    EXPECT_NE(picture(1, 0), picture(1, 1));
    EXPECT_EQ(picture(1, 1), picture(1, 1));
}

TEST(PrefixNames, EndWhereContentIsNotKnown) {
    PrefixNames names(RopeFrequencies{{1}});
    for (int i = 0; i < 20; ++i) names.append(i);
    names.end();
    for (int i = 0; i < 20; ++i) names.append(i);
    EXPECT_EQ(names.names().size(), 1u);
}

}  // namespace internvl
