#include "tensor/dtype.h"

#include <iterator>

namespace internvl {

struct DTypeRow {
    const char* name;
    int bytes;
};
static constexpr DTypeRow rows[] = {
    {"BOOL", 1}, {"U8", 1},  {"I8", 1},  {"I16", 2}, {"U16", 2}, {"F16", 2}, {"BF16", 2},
    {"I32", 4},  {"U32", 4}, {"F32", 4}, {"I64", 8}, {"U64", 8}, {"F64", 8},
};

int64_t size_of(DType dtype) {
    return rows[int(dtype)].bytes;
}

const char* dtype_name(DType dtype) {
    return rows[int(dtype)].name;
}

bool parse_dtype(std::string_view name, DType* dtype) {
    for (int i = 0; i < int(std::size(rows)); ++i)
        if (name == rows[i].name) {
            *dtype = DType(i);
            return true;
        }
    return false;
}

float to_float(f16_t x) {
    const uint32_t sign = uint32_t(x.bits & 0x8000) << 16, exponent = (x.bits >> 10) & 31;
    const uint32_t mantissa = x.bits & 1023;
    if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | (mantissa << 13));
    if (exponent == 0) {  // zero or subnormal: mantissa * 2^-24 is exact in fp32
        const float magnitude = float(mantissa) * 0x1p-24f;
        return sign ? -magnitude : magnitude;
    }
    return std::bit_cast<float>(sign | ((exponent + 112) << 23) | (mantissa << 13));
}

f16_t to_f16(float x) {
    const uint32_t u = std::bit_cast<uint32_t>(x), sign = (u >> 16) & 0x8000,
                   magnitude = u & 0x7fffffffu;
    if (magnitude > 0x7f800000u) return {uint16_t(sign | 0x7e00)};
    if (magnitude >= 0x477ff000u)
        return {uint16_t(sign | 0x7c00)};  // 65520 and more round to infinity
    if (magnitude < 0x38800000u) {  // below 2^-14: adding 0.5 leaves the subnormal's bits, rounded,
                                    // in the low end
        const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
        return {uint16_t(sign | (std::bit_cast<uint32_t>(shifted) - 0x3f000000u))};
    }
    const uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1);
    return {uint16_t(sign | ((rounded - 0x38000000u) >> 13))};
}

}  // namespace internvl
