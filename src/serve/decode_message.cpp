// Jobs and outcomes as bytes. Both sides are one program on one machine, so numbers stay as they
// are; but the side that decodes may have been taken over, so nothing read is believed.
#include <array>
#include <bit>
#include <cstring>
#include <type_traits>

#include "serve/decode_job.h"

namespace internvl {
namespace {

constexpr uint32_t job_mark = 0x314A564D, outcome_mark = 0x314F564D;  // MVJ1, MVO1

struct Writer {
    std::vector<uint8_t> bytes;

    template <class T>
    void put(T value) {
        static_assert(std::is_arithmetic_v<T>);
        for (const uint8_t byte : std::bit_cast<std::array<uint8_t, sizeof value>>(value))
            bytes.push_back(byte);
    }
};

// Takes numbers from the front; once something is wrong it stays wrong.
struct Reader {
    std::span<const uint8_t> rest;
    bool good = true;

    template <class T>
    T get(T low, T high) {
        T value{};
        if (rest.size() < sizeof value) {
            good = false;
            return low;
        }
        std::memcpy(&value, rest.data(), sizeof value);
        rest = rest.subspan(sizeof value);
        if (!(value >= low && value <= high)) {
            good = false;
            return low;
        }
        return value;
    }
    bool flag() { return get<uint8_t>(0, 1) != 0; }
    void mark(uint32_t expected) { get<uint32_t>(expected, expected); }
};

// One list of fields for both directions.
template <class Stream, class Job>
void limits(Stream& s, Job& job) {
    constexpr int64_t most = INT64_MAX;
    s.number(job.image_limits.max_pixels, int64_t(1), most);
    s.number(job.image_limits.max_side, 1, INT32_MAX);
    s.number(job.image_limits.max_bytes, int64_t(1), most);
    s.number(job.video_limits.max_pixels, int64_t(1), most);
    s.number(job.video_limits.max_frames, int64_t(1), most);
    s.number(job.video_limits.max_decoded, int64_t(1), most);
    s.number(job.video_limits.max_side, 1, INT32_MAX);
    s.number(job.video_limits.max_decoded_frames, int64_t(1), most);
    s.number(job.video_limits.max_seconds, 0.0, 1e18);
    s.number(job.video_limits.max_fps, 0.0, 1e18);
    s.flag(job.video_limits.steady);
    s.flag(job.video_limits.common_kinds);
}

template <class Stream, class Job>
void fields(Stream& s, Job& job) {
    s.choice(job.kind, DecodeJob::Kind::clip);
    s.number(job.encoded_bytes, int64_t(0), int64_t(1) << 40);
    s.number(job.width, 0, INT32_MAX);
    s.number(job.height, 0, INT32_MAX);
    s.number(job.tiles.min_num, 1, 1024);
    s.number(job.tiles.max_num, 1, 1024);
    s.flag(job.tiles.thumbnail);
    s.flag(job.tiles.tiling);
    s.number(job.tiles.side, 1, 4096);
    s.choice(job.tiles.order, PassOrder::horizontal_first);
    s.flag(job.exif_rotate);
    limits(s, job);
}

template <class Stream, class Outcome>
void outcome_fields(Stream& s, Outcome& outcome) {
    s.choice(outcome.state, DecodeOutcome::State::too_large);
    s.number(outcome.width, 0, 1 << 20);
    s.number(outcome.height, 0, 1 << 20);
    s.number(outcome.fps, 0.0, 1e9);
    s.number(outcome.frame_count, int64_t(0), int64_t(1) << 40);
    s.number(outcome.resize_ms, 0.0, 1e9);
}

struct Out : Writer {
    template <class T>
    void number(const T& value, T, T) {
        put(value);
    }
    void flag(bool value) { put(uint8_t(value)); }
    template <class E>
    void choice(E value, E) {
        put(uint32_t(value));
    }
};

struct In : Reader {
    template <class T>
    void number(T& value, T low, T high) {
        value = get<T>(low, high);
    }
    void flag(bool& value) { value = Reader::flag(); }
    template <class E>
    void choice(E& value, E last) {
        value = E(get<uint32_t>(0, uint32_t(last)));
    }
};

}  // namespace

std::vector<uint8_t> to_message(const DecodeJob& job) {
    Out out;
    out.put(job_mark);
    fields(out, job);
    out.put(uint32_t(job.indices.size()));
    for (const int64_t index : job.indices) out.put(index);
    return out.bytes;
}

std::optional<DecodeJob> read_job(std::span<const uint8_t> message) {
    In in{{message}};
    DecodeJob job;
    in.mark(job_mark);
    fields(in, job);
    const auto count = in.get<uint32_t>(0, most_indices);
    for (uint32_t i = 0; i < count && in.good; ++i) {
        const int64_t after = job.indices.empty() ? 0 : job.indices.back() + 1;
        job.indices.push_back(in.get<int64_t>(after, int64_t(1) << 40));
    }
    const bool sized =
        job.kind == DecodeJob::Kind::clip_header || (job.width > 0 && job.height > 0);
    const bool framed = (job.kind == DecodeJob::Kind::clip) == (count > 0);
    if (!in.good || !in.rest.empty() || !sized || !framed || job.tiles.min_num > job.tiles.max_num)
        return std::nullopt;
    return job;
}

std::vector<uint8_t> to_message(const DecodeOutcome& outcome) {
    Out out;
    out.put(outcome_mark);
    outcome_fields(out, outcome);
    return out.bytes;
}

std::optional<DecodeOutcome> read_outcome(std::span<const uint8_t> message) {
    In in{{message}};
    DecodeOutcome outcome;
    in.mark(outcome_mark);
    outcome_fields(in, outcome);
    if (!in.good || !in.rest.empty()) return std::nullopt;
    return outcome;
}

}  // namespace internvl
