#pragma once
#include <string>

#include "ops/context.h"

namespace internvl {

// Shows a stage to whoever traces the forward pass; names are those of `internvl trace`.
inline void watch(Context& ctx, const char* stage, const View& v) {
    if (ctx.watch) ctx.watch(stage, v);
}
inline void watch(Context& ctx, const char* stage, size_t layer, const View& v) {
    if (ctx.watch) ctx.watch(stage + std::to_string(layer), v);
}

}  // namespace internvl
