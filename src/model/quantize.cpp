#include "model/quantize.h"

#include <fmt/format.h>

#include <algorithm>

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

QuantPolicy::QuantPolicy(Quant word)
    : vision(word == Quant::int4 ? Quant::int8 : word),
      projector(vision),
      language(word),
      head(vision) {}

Quant QuantPolicy::of(Role role) const {
    switch (role) {
        case Role::patches:
            return Quant::none;
        case Role::vision:
            return vision;
        case Role::projector:
            return projector;
        case Role::language:
            return language;
        case Role::head:
            return head;
    }
    return Quant::none;
}

QuantPolicy QuantPolicy::over(const QuantPolicy& filed) const {
    QuantPolicy both = *this;
    both.group = filed.group;
    for (Quant QuantPolicy::*part : {&QuantPolicy::vision, &QuantPolicy::projector,
                                     &QuantPolicy::language, &QuantPolicy::head})
        if (filed.*part != Quant::none) both.*part = filed.*part;
    return both;
}

std::string QuantPolicy::text() const {
    for (const Quant word : {Quant::none, Quant::int8, Quant::int4}) {
        QuantPolicy same = word;
        same.group = group;
        if (*this == same) return quant_name(word);
    }
    return fmt::format("vision {}, projector {}, language {}, head {}", quant_name(vision),
                       quant_name(projector), quant_name(language), quant_name(head));
}

int64_t int4_group(const QuantPolicy& policy, int64_t in) {
    if (policy.group != 0) return policy.group < 0 ? in : policy.group;
    for (const int64_t group : {64, 32, 16, 8})
        if (in % group == 0) return group;
    return 0;
}

// The largest part of a file's group that a kernel takes as one (kernels.h); 0 when none is.
static int kernel_group(int64_t filed) {
    for (int64_t group = std::min<int64_t>(filed, 128) / 8 * 8; group > 0; group -= 8)
        if (filed % group == 0) return int(group);
    return 0;
}

WeightFormat weight_format(const QuantPolicy& policy, Role role, int64_t in, DType dtype) {
    const Quant quant = policy.of(role);
    if (quant == Quant::none) return dtype;
    const int group = kernel_group(int4_group(policy, in));
    if (quant == Quant::int4 && group > 0) return {WeightFormat::int4, group};
    return WeightFormat::int8;
}

}  // namespace internvl
