#include "train/optimizer.h"

#include <algorithm>
#include <cmath>
#include <cstring>

namespace internvl {

static Tensor zeros_like(const Tensor& t) {
    Tensor zeros = make_tensor(DType::f32, {t.size()});
    std::memset(zeros.data, 0, size_t(zeros.bytes()));
    return zeros;
}

double gradient_norm(const Context& ctx, const std::vector<Trainable>& list) {
    double squares = 0;
    for (const Trainable& t : list)
        squares += ctx.kernels.sum_of_squares(t.gradient.as<float>(), t.gradient.size());
    return std::sqrt(squares);
}

AdamW::AdamW(const std::vector<Trainable>& list, const AdamWOptions& options) : options_(options) {
    for (const Trainable& t : list) moments_.push_back({zeros_like(t.value), zeros_like(t.value)});
}

double AdamW::step(Context& ctx, std::vector<Trainable>& list, double rate) {
    assert(list.size() == moments_.size());
    const double norm = gradient_norm(ctx, list);
    ++steps_;
    AdamWArgs args;
    args.factor = float(std::min(1.0, options_.most_norm / (norm + 1e-6)));
    args.rate = float(rate);
    args.decay = options_.decay;
    args.beta1 = options_.beta1, args.beta2 = options_.beta2, args.epsilon = options_.epsilon;
    args.correction1 = float(1 - std::pow(double(options_.beta1), double(steps_)));
    args.correction2 = float(1 - std::pow(double(options_.beta2), double(steps_)));
    for (size_t i = 0; i < list.size(); ++i) {
        args.value = list[i].value.as<float>();
        args.gradient = list[i].gradient.as<float>();
        args.mean = moments_[i].mean.as<float>();
        args.square = moments_[i].square.as<float>();
        args.count = list[i].value.size();
        ctx.kernels.adamw(args, ctx.pool);
    }
    return norm;
}

}  // namespace internvl
