#include "model/quantize.h"

#include "base/error.h"

namespace internvl {

Quant parse_quant(const std::string& name) {
    for (const Quant quant : {Quant::none, Quant::int8, Quant::int4})
        if (name == quant_name(quant)) return quant;
    throw UsageError("unknown quantisation", "none, int8 or int4", name);
}

bool parse_kv_cache(const std::string& name) {
    if (name != "auto" && name != "int8")
        throw UsageError("unknown type of keys and values", "auto or int8", name);
    return name == "int8";
}

const char* quant_name(Quant quant) {
    return quant == Quant::int8 ? "int8" : quant == Quant::int4 ? "int4" : "none";
}

// The largest usual group that the inputs are a multiple of, 0 when none is.
static int int4_group(int64_t in) {
    for (const int group : {64, 32, 16, 8})
        if (in % group == 0) return group;
    return 0;
}

WeightFormat weight_format(Quant quant, Role role, int64_t in, DType dtype) {
    if (quant == Quant::none || role == Role::patches) return dtype;
    const int group = int4_group(in);
    if (quant == Quant::int4 && role == Role::language && group > 0)
        return {WeightFormat::int4, group};
    return WeightFormat::int8;
}

}  // namespace internvl
