#include "model/cost.h"

#include <algorithm>

#include "model/tensors.h"

namespace internvl {

Gflop vision_gflop(const ModelConfig& c, int64_t tiles) {
    const VisionConfig& v = c.vision;
    const double d = double(v.hidden), patches = double(v.patches()), n = patches + 1;
    const double embed = 2 * patches * double(3 * v.patch * v.patch) * d;
    const double layer = 2 * n * (4 * d * d + 2 * d * double(v.intermediate));
    const double rows = patches / 4, to = double(c.text.hidden);
    const double project = 2 * rows * (4 * d * to + to * to);
    const double times = double(tiles) / 1e9, layers = double(c.vision_layers);
    return {times * (embed + layers * layer + project), times * layers * 4 * n * n * d};
}

// Products of one layer of the language model.
static int64_t layer_weights(const TextConfig& t) {
    const int64_t q = t.heads * t.head_dim, kv = t.kv_heads * t.head_dim;
    return t.hidden * (q + 2 * kv) + q * t.hidden + 3 * t.hidden * t.intermediate;
}

// Causal attention: half of the square.
Gflop prefill_gflop(const TextConfig& t, int64_t tokens) {
    const double n = double(tokens), layers = double(t.layers);
    const double attention = 2 * n * (n + 1) * double(t.heads * t.head_dim);
    const double products = layers * 2 * n * double(layer_weights(t));
    return {(products + 2 * double(t.hidden * t.vocab)) / 1e9, layers * attention / 1e9};
}

double decode_gflop(const TextConfig& t, int64_t context) {
    const double attention = 4 * double(context + 1) * double(t.heads * t.head_dim);
    return (double(t.layers) * (2 * double(layer_weights(t)) + attention) +
            2 * double(t.hidden * t.vocab)) /
           1e9;
}

double decode_gb(int64_t context, int64_t users, int64_t language_bytes, int64_t cache_bytes) {
    return double(language_bytes + users * context * cache_bytes) / 1e9;
}

std::vector<GpuShare> split_over_gpus(const ModelConfig& c, int gpus) {
    const int64_t layers = c.text.layers, doubled = 2 * gpus - 1;
    // The first GPU counts as half of one.
    const int64_t each = (2 * layers + doubled - 1) / doubled, first = (each + 1) / 2;
    std::vector<GpuShare> shares(static_cast<size_t>(gpus));
    int64_t next = 0;
    for (GpuShare& share : shares) {
        const int64_t wanted = next == 0 ? first : each;
        share.layers = std::min(wanted, layers - next);
        next += share.layers;
    }
    const auto last = std::find_if(shares.rbegin(), shares.rend(),
                                   [](const GpuShare& share) { return share.layers > 0; });
    --last->layers;
    ++shares[0].layers;
    ModelConfig thinner = c;
    --thinner.text.layers;
    const int64_t all = count_parameters(c).total;
    const int64_t layer = all - count_parameters(thinner).total;
    for (GpuShare& share : shares) share.parameters = share.layers * layer;
    shares[0].parameters += all - layers * layer;
    return shares;
}

}  // namespace internvl
