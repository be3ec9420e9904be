#include "model/rope.h"

#include <cmath>

namespace internvl {

// theta^(2i/head_dim) in fp32, the base rounded first.
static float power(double theta, int64_t i, int64_t head_dim) {
    const float exponent = float(2 * i) / float(head_dim);
    return float(std::pow(double(float(theta)), double(exponent)));
}

static double enlarged_base(const TextConfig& t, int64_t length) {
    const double f = t.rope.factor, ratio = double(length) / double(t.max_positions);
    const double dim = double(t.head_dim);
    return t.rope_theta * std::pow(f * ratio - (f - 1), dim / (dim - 2));
}

RopeFrequencies rope_frequencies(const TextConfig& t, int64_t length) {
    using Kind = RopeScaling::Kind;
    RopeFrequencies f;
    const bool enlarged = t.rope.kind == Kind::dynamic_ntk && length > t.max_positions;
    const double theta = enlarged ? enlarged_base(t, length) : t.rope_theta;
    const std::vector<float>& factors =
        length > t.rope.original_positions ? t.rope.long_factors : t.rope.short_factors;
    for (int64_t i = 0; i < t.head_dim / 2; ++i) {
        const float p = power(theta, i, t.head_dim);
        f.inv_freq.push_back(1.0f / (factors.empty() ? p : factors[size_t(i)] * p));
    }
    if (t.rope.kind == Kind::longrope) {
        const double scale = double(t.max_positions) / double(t.rope.original_positions);
        if (scale > 1)  // in the short regime too (spec 5.3)
            f.magnitude =
                float(std::sqrt(1 + std::log(scale) / std::log(double(t.rope.original_positions))));
    }
    return f;
}

ReferenceRope::ReferenceRope(const TextConfig& config)
    : config_(config), table_length_(config.max_positions), now_(rope_frequencies(config, 0)) {}

const RopeFrequencies& ReferenceRope::at(int64_t length) {
    if (config_.rope.kind == RopeScaling::Kind::longrope) {
        now_ = rope_frequencies(config_, length);
    } else if (length > table_length_) {
        table_length_ = length;
        now_ = rope_frequencies(config_, length);
    }
    return now_;
}

}  // namespace internvl
