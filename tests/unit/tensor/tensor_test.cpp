#include <cmath>
#include <cstring>

#include "support.h"
#include "tensor/arena.h"

namespace internvl {

TEST(DTypes, NamesAndSizes) {
    DType t;
    EXPECT_TRUE(parse_dtype("BF16", &t));
    EXPECT_EQ(t, DType::bf16);
    EXPECT_EQ(size_of(DType::i64), 8);
    EXPECT_FALSE(parse_dtype("bf16", &t));
}

TEST(DTypes, EveryHalfSurvivesTheWayThroughFp32) {
    for (uint32_t bits = 0; bits < 65536; ++bits) {
        const float h = to_float(f16_t{uint16_t(bits)}), b = to_float(bf16_t{uint16_t(bits)});
        if (std::isnan(h))
            EXPECT_TRUE(std::isnan(to_float(to_f16(h))));
        else
            EXPECT_EQ(to_f16(h).bits, bits);
        if (std::isnan(b))
            EXPECT_TRUE(std::isnan(to_float(to_bf16(b))));
        else
            EXPECT_EQ(to_bf16(b).bits, bits);
    }
}

TEST(DTypes, RoundsToNearestTiesToEven) {
    EXPECT_EQ(to_bf16(1.00390625f).bits, 0x3f80);  // halfway: down to even
    EXPECT_EQ(to_bf16(1.01171875f).bits, 0x3f82);  // halfway: up to even
    EXPECT_EQ(to_bf16(std::nextafter(1.00390625f, 2.f)).bits, 0x3f81);
    EXPECT_EQ(to_f16(1.00048828125f).bits, 0x3c00);
    EXPECT_EQ(to_f16(65519.f).bits, 0x7bff);
    EXPECT_EQ(to_f16(65520.f).bits, 0x7c00);
    EXPECT_EQ(to_f16(0x1p-24f).bits, 1);
    EXPECT_EQ(to_f16(0x1p-25f).bits, 0);  // halfway to zero: even
    EXPECT_EQ(to_f16(-0.0f).bits, 0x8000);
}

TEST(Views, SliceAndReshape) {
    Tensor t = make_tensor(DType::f32, {2, 3, 4});
    for (int i = 0; i < 24; ++i) t.as<float>()[i] = float(i);
    const View part = t.slice(1, 1, 2);
    EXPECT_EQ(part.shape_text(), "[2, 2, 4]");
    EXPECT_EQ(part.as<float>()[0], 4);
    EXPECT_FALSE(part.contiguous());
    EXPECT_EQ(t.reshape({6, 4}).dim[0], 6);
    EXPECT_FALSE(View());
}

TEST(Arena, ReusesWhatWasGivenBack) {
    Arena arena;
    void* first;
    {
        const Tensor a = arena.get(DType::f32, {1000});
        first = a.data;
        const Tensor copy = a;
    }
    EXPECT_EQ(arena.get(DType::f32, {1000}).data, first);
    const int64_t held = arena.held_bytes();
    EXPECT_EQ(arena.get(DType::u8, {4000}).data, first);
    EXPECT_EQ(arena.held_bytes(), held);
    arena.trim();
    EXPECT_EQ(arena.held_bytes(), 0);
}

TEST(Arena, ATensorOutlivesItsArena) {
    Tensor t;
    {
        Arena arena;
        t = arena.get(DType::u8, {3 << 20});
    }
    std::memset(t.data, 1, size_t(t.bytes()));
}

}  // namespace internvl
