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

// What the products of each part are kept in. As one word, int4 touches the layers of the language
// model only: there it saves what a token has to read, while pictures and the choice of a token
// suffer most from it and gain nothing (docs/numerics.md).
struct QuantPolicy {
    Quant vision, projector, language, head;
    // int4: inputs that share a scale and a zero in a file; 0: as we choose, -1: all of them.
    int64_t group = 0;

    QuantPolicy(Quant word = Quant::none);
    bool operator==(const QuantPolicy&) const = default;
    Quant of(Role) const;
    // The same, but for what a folder keeps in fewer bits already.
    QuantPolicy over(const QuantPolicy& filed) const;
    // "none", "int8", "int4" where that says all, else "vision int8, ..., head none".
    std::string text() const;
};

// How a folder is quantised (quantization_config): by AWQ, or by ourselves
// (docs/quantized_folders.md).
struct FiledQuant {
    enum class Method { none, awq, internvl } method = Method::none;
    QuantPolicy parts;
};

// Inputs of a product that share a scale in a file with int4; 0: it cannot be kept in int4.
int64_t int4_group(const QuantPolicy&, int64_t in);
// How the weights of a product with so many inputs are kept; plain ones in `dtype`.
WeightFormat weight_format(const QuantPolicy&, Role, int64_t in, DType dtype);

}  // namespace internvl
