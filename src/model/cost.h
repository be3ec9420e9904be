#pragma once
#include <vector>

#include "model/config.h"

namespace internvl {

// What a model has to compute and to read. A multiply-add counts as two operations (spec 3.7).

// Products with weights may run in fewer bits than those of attention.
struct Gflop {
    double products = 0, attention = 0;
    double all() const { return products + attention; }
};
Gflop vision_gflop(const ModelConfig&, int64_t tiles);  // tower and projector
// `tokens` of a prompt that nothing precedes, with the logits of the last one.
Gflop prefill_gflop(const TextConfig&, int64_t tokens);
double decode_gflop(const TextConfig&, int64_t context);  // one token behind `context` others
// What `users` tokens read that are made together, each behind `context` others: the products of
// the language model once, and everyone's keys and values (bytes of all products and of a token:
// memory.h).
double decode_gb(int64_t context, int64_t users, int64_t language_bytes, int64_t cache_bytes);

// What one GPU holds when the layers are shared out as the model card does (spec 8.3).
struct GpuShare {
    int64_t layers = 0, parameters = 0;
};
// The first one has the vision tower, embeddings, head and last layer too, and so fewer layers.
std::vector<GpuShare> split_over_gpus(const ModelConfig&, int gpus);

}  // namespace internvl
