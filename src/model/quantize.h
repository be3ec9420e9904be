#pragma once
#include <string>

#include "ops/kernels.h"

namespace internvl {

// What --quant means: int8 weights with a scale for each output, int4 with one for each group of
// inputs. Norms, biases, layer scales and the embedding table are never quantised.
enum class Quant { none, int8, int4 };

Quant parse_quant(const std::string& name);  // "none", "int8" or "int4"
const char* quant_name(Quant quant);
// What --kv-cache means: whether keys and values are kept as bytes, "int8", or as computed, "auto".
bool parse_kv_cache(const std::string& name);

// What a product is for: each has a policy of its own.
enum class Role { patches, vision, projector, language, head };

// How the weights of a product with so many inputs are kept; plain ones in `dtype`. int4 touches
// the layers of the language model only: there it saves what a token has to read, while pictures
// and the choice of a token suffer most from it and gain nothing (docs/numerics.md).
WeightFormat weight_format(Quant quant, Role role, int64_t in, DType dtype);

}  // namespace internvl
