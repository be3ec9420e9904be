// Weights into panels: moved, converted, or rounded to codes.
#undef HWY_TARGET_INCLUDE
#define HWY_TARGET_INCLUDE "ops/cpu/pack.cpp"
#include "ops/cpu/target.h"
//
#include <hwy/foreach_target.h>

#include <algorithm>
#include <cstring>

#include "ops/cpu/encode-inl.h"
#include "ops/cpu/quant_tile.h"

HWY_BEFORE_NAMESPACE();
namespace internvl {
namespace HWY_NAMESPACE {

static constexpr int64_t most_group = 128;  // kernels.h

template <class To>
static void write_value(float value, To* to) {
    if constexpr (sizeof(To) == 4)
        *to = value;
    else if constexpr (std::is_same_v<To, bf16_t>)
        *to = to_bf16(value);
    else
        *to = to_f16(value);
}

// The panel of outputs from `first` on. Same type: bits are moved; else by way of fp32.
template <class From, class To>
static void pack_plain_panel(const View& w, const WeightFormat&, int64_t first, char* panel) {
    constexpr int64_t per_step = sizeof(To) == 2 ? 2 : 1;
    const int64_t out = w.dim[0], in = w.dim[1];
    To* to = reinterpret_cast<To*>(panel);
    // Step by step through 64 rows at once: each row is a stream of its own, each line of `to` is
    // written once.
    for (int64_t step = 0; step < in / per_step; ++step)
        for (int64_t n = 0; n < panel_width; ++n) {
            To* place = to + (step * panel_width + n) * per_step;
            const From* from = w.as<From>() + (first + n) * w.stride[0] + step * per_step;
            for (int64_t p = 0; p < per_step; ++p) {
                if (first + n >= out)
                    place[p] = To{};
                else if constexpr (std::is_same_v<From, To>)
                    place[p] = from[p];
                else
                    write_value(to_float(from[p]), place + p);
            }
        }
}

using PackPanel = void (*)(const View&, const WeightFormat&, int64_t first, char* panel);

template <class From>
static PackPanel pack_plain(DType to) {
    return to == DType::f32    ? pack_plain_panel<From, float>
           : to == DType::bf16 ? pack_plain_panel<From, bf16_t>
                               : pack_plain_panel<From, f16_t>;
}

// 64 rows of codes of up to most_group inputs, on their way into a panel.
struct Slab {
    uint8_t codes[panel_width][most_group];
};

template <class T>
static void pack_int8_panel(const View& w, int64_t first, char* panel) {
    const int64_t rows = std::min(panel_width, w.dim[0] - first), in = w.dim[1];
    float* scale = reinterpret_cast<float*>(panel);
    int32_t sum[panel_width] = {};
    std::memset(panel, 0, size_t(int8_header));
    const auto row_of = [&](int64_t n) { return w.as<T>() + (first + n) * w.stride[0]; };
    for (int64_t n = 0; n < rows; ++n) scale[n] = largest(row_of(n), in) / 127;
    Slab slab;
    for (int64_t k = 0; k < in; k += most_group) {
        const int64_t count = std::min(most_group, in - k), quads = (count + 3) / 4;
        std::memset(&slab, 0, sizeof slab);
        for (int64_t n = 0; n < rows; ++n)
            sum[n] +=
                encode(row_of(n) + k, count, inverse_of(scale[n]), 0, -127, 127, slab.codes[n]);
        char* to = panel + int8_header + k * panel_width;
        for (int64_t q = 0; q < quads; ++q)
            for (int64_t n = 0; n < panel_width; ++n, to += 4)
                std::memcpy(to, slab.codes[n] + 4 * q, 4);
    }
    for (int64_t n = 0; n < rows; ++n) sum[n] *= 128;
    std::memcpy(panel + 4 * panel_width, sum, sizeof sum);
}

// A group of int4: the range of the weights, 0 among them, in 15 steps.
template <class T>
static void choose_int4(const T* x, int64_t count, f16_t* scale, uint8_t* zero) {
    V least = hn::Zero(D()), most = hn::Zero(D());
    for (int64_t i = 0; i < count; i += lanes) {
        const V v = load_upto(x + i, count - i);
        least = hn::Min(least, v);
        most = hn::Max(most, v);
    }
    const float low = hn::GetLane(hn::MinOfLanes(D(), least));
    *scale = to_f16(std::min((hn::GetLane(hn::MaxOfLanes(D(), most)) - low) / 15, 65504.0f));
    const float step = to_float(*scale);
    *zero = step > 0 ? uint8_t(std::min(15.0f, -low / step + 0.5f)) : 0;
}

// Both halves of the bytes of one group (quant_tile.h).
static void write_int4_group(const Slab& slab, int64_t group, char* to) {
    for (int64_t k = 0; k < group; k += 8)
        for (int64_t n = 0; n < panel_width; ++n)
            for (int i = 0; i < 4; ++i)
                *to++ = char(slab.codes[n][k + i] | slab.codes[n][k + 4 + i] << 4);
}

template <class T>
static void pack_int4_panel(const View& w, int64_t group, int64_t first, char* panel) {
    const int64_t rows = std::min(panel_width, w.dim[0] - first), groups = w.dim[1] / group;
    Slab slab;
    for (int64_t g = 0; g < groups; ++g, panel += int4_group_bytes(group)) {
        f16_t scale[panel_width] = {};
        uint8_t zero[panel_width] = {};
        std::memset(&slab, 0, sizeof slab);
        for (int64_t n = 0; n < rows; ++n) {
            const T* x = w.as<T>() + (first + n) * w.stride[0] + g * group;
            choose_int4(x, group, scale + n, zero + n);
            encode(x, group, inverse_of(to_float(scale[n])), zero[n], 0, 15, slab.codes[n]);
        }
        std::memcpy(panel, scale, sizeof scale);
        std::memcpy(panel + sizeof scale, zero, sizeof zero);
        write_int4_group(slab, group, panel + int4_group_header);
    }
}

template <class T>
static void pack_quantised(const View& w, const WeightFormat& f, int64_t first, char* panel) {
    f.kind == WeightFormat::int8 ? pack_int8_panel<T>(w, first, panel)
                                 : pack_int4_panel<T>(w, f.group, first, panel);
}

// Codes that a file holds, laid out as the tiles want them.
static void pack_code_panel(const WeightCodes& c, const WeightFormat& f, int64_t first,
                            char* panel) {
    const int64_t rows = std::min(panel_width, c.out - first), in = c.in;
    const int64_t group = f.kind == WeightFormat::int8 ? most_group : f.group;
    int32_t sum[panel_width] = {};
    Slab slab;
    for (int64_t k = 0, g = 0; k < in; k += group, ++g) {
        const int64_t count = std::min(group, in - k);
        std::memset(&slab, 0, sizeof slab);
        for (int64_t n = 0; n < rows; ++n)
            std::memcpy(slab.codes[n], c.codes + (first + n) * in + k, size_t(count));
        if (f.kind == WeightFormat::int8) {
            char* to = panel + int8_header + k * panel_width;
            for (int64_t q = 0; q < (count + 3) / 4; ++q)
                for (int64_t n = 0; n < panel_width; ++n, to += 4) {
                    std::memcpy(to, slab.codes[n] + 4 * q, 4);
                    for (int i = 0; i < 4; ++i) sum[n] += 128 * int8_t(to[i]);
                }
            continue;
        }
        char* header = panel + g * int4_group_bytes(group);
        std::memset(header, 0, size_t(int4_group_header));
        for (int64_t n = 0; n < rows; ++n) {
            const int64_t at = (first + n) * (in / group) + g;
            const f16_t scale = to_f16(c.scale[at]);
            std::memcpy(header + 2 * n, &scale, 2);
            header[128 + n] = char(c.zero[at]);
        }
        write_int4_group(slab, group, header + int4_group_header);
    }
    if (f.kind != WeightFormat::int8) return;
    std::memset(panel, 0, size_t(int8_header));
    std::memcpy(panel, c.scale + first, size_t(rows) * sizeof(float));
    std::memcpy(panel + 4 * panel_width, sum, sizeof sum);
}

template <class T>
static PackPanel panel_packer(const WeightFormat& f) {
    return f.kind == WeightFormat::plain ? pack_plain<T>(f.dtype) : pack_quantised<T>;
}

static void pack(const View& w, const WeightFormat& f, void* dst, ThreadPool& pool) {
    const auto panel = w.dtype == DType::f32    ? panel_packer<float>(f)
                       : w.dtype == DType::bf16 ? panel_packer<bf16_t>(f)
                                                : panel_packer<f16_t>(f);
    const int64_t bytes = packed_bytes(f, panel_width, w.dim[1]);
    pool.parallel_for((w.dim[0] + panel_width - 1) / panel_width, 1,
                      [&](int64_t begin, int64_t, int) {
                          panel(w, f, begin * panel_width, static_cast<char*>(dst) + begin * bytes);
                      });
}

static void pack_codes(const WeightCodes& c, const WeightFormat& f, void* dst, ThreadPool& pool) {
    const int64_t bytes = packed_bytes(f, panel_width, c.in);
    pool.parallel_for((c.out + panel_width - 1) / panel_width, 1, [&](int64_t begin, int64_t, int) {
        pack_code_panel(c, f, begin * panel_width, static_cast<char*>(dst) + begin * bytes);
    });
}

static void fill(Kernels& table) {
    table.pack = pack;
    table.pack_codes = pack_codes;
}

}  // namespace HWY_NAMESPACE
}  // namespace internvl
HWY_AFTER_NAMESPACE();

#if HWY_ONCE
namespace internvl {

int64_t packed_bytes(const WeightFormat& f, int64_t out, int64_t in) {
    const int64_t panels = (out + panel_width - 1) / panel_width;
    if (f.kind == WeightFormat::int8)
        return panels * (int8_header + (in + 3) / 4 * 4 * panel_width);
    if (f.kind == WeightFormat::int4) return panels * in / f.group * int4_group_bytes(f.group);
    return panels * panel_width * in * size_of(f.dtype);
}

int8_t packed_int8(const void* packed, int64_t in, int64_t n, int64_t k) {
    const char* panel = static_cast<const char*>(packed) +
                        n / panel_width * packed_bytes(WeightFormat::int8, panel_width, in);
    return int8_t(panel[int8_header + (k / 4 * panel_width + n % panel_width) * 4 + k % 4]);
}

CodeBuffers unpack_codes(const void* packed, const WeightFormat& f, int64_t out, int64_t in) {
    const bool int4 = f.kind == WeightFormat::int4;
    const int64_t groups = int4 ? in / f.group : 1, bytes = packed_bytes(f, panel_width, in);
    CodeBuffers c{std::vector<uint8_t>(size_t(out * in)),
                  std::vector<uint8_t>(size_t(int4 ? out * groups : 0)),
                  std::vector<float>(size_t(out * groups))};
    for (int64_t n = 0; n < out; ++n) {
        const char* panel = static_cast<const char*>(packed) + n / panel_width * bytes;
        const int64_t column = n % panel_width;
        uint8_t* codes = c.codes.data() + n * in;
        if (!int4) {
            std::memcpy(&c.scale[size_t(n)], panel + 4 * column, 4);
            for (int64_t k = 0; k < in; ++k) codes[k] = uint8_t(packed_int8(packed, in, n, k));
            continue;
        }
        for (int64_t g = 0; g < groups; ++g, panel += int4_group_bytes(f.group)) {
            f16_t scale;
            std::memcpy(&scale, panel + 2 * column, 2);
            c.scale[size_t(n * groups + g)] = to_float(scale);
            c.zero[size_t(n * groups + g)] = uint8_t(panel[128 + column]);
            for (int64_t k = 0; k < f.group; ++k) {
                const char* at = panel + int4_group_header + (k / 8 * panel_width + column) * 4;
                codes[g * f.group + k] = uint8_t(at[k % 4]) >> (k % 8 < 4 ? 0 : 4) & 15;
            }
        }
    }
    return c;
}

void fill_pack(Kernels& table, Isa isa) {
    INTERNVL_PICK(isa, fill, table);
}

}  // namespace internvl
#endif
