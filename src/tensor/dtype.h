#pragma once
#include <bit>
#include <cstdint>
#include <string_view>

namespace internvl {

// Element types of tensors; the names are those of safetensors.
enum class DType : uint8_t { boolean, u8, i8, i16, u16, f16, bf16, i32, u32, f32, i64, u64, f64 };

int64_t size_of(DType dtype);                           // bytes of one element
const char* dtype_name(DType dtype);                    // "BF16"
bool parse_dtype(std::string_view name, DType* dtype);  // false when the name is unknown

// A brain float: the upper half of an fp32.
struct bf16_t {
    uint16_t bits;
};
// An IEEE half.
struct f16_t {
    uint16_t bits;
};

inline float to_float(bf16_t x) {
    return std::bit_cast<float>(uint32_t(x.bits) << 16);
}
inline float to_float(float x) {
    return x;
}
float to_float(f16_t x);

// Round to nearest, ties to even; NaN stays NaN.
inline bf16_t to_bf16(float x) {
    const uint32_t u = std::bit_cast<uint32_t>(x);
    if ((u & 0x7fffffffu) > 0x7f800000u) return {uint16_t((u >> 16) | 0x40)};
    return {uint16_t((u + 0x7fffu + ((u >> 16) & 1)) >> 16)};
}
f16_t to_f16(float x);

}  // namespace internvl
