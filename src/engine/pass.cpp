#include "engine/pass.h"

namespace internvl {

void Pass::add(std::span<const int32_t> blocks, int64_t first, const View& rows,
               const RopeFrequencies& rope, bool logits) {
    const int64_t begin = this->rows(), count = rows.dim[0];
    for (int64_t position = first; position < first + count; ++position) {
        batch_.positions.push_back(int32_t(position));
        batch_.slots.push_back(blocks[size_t(position / cache_block)] * int32_t(cache_block) +
                               int32_t(position % cache_block));
    }
    batch_.spans.push_back({begin, count, first + count, blocks.data()});
    batch_.rope.push_back(&rope);
    if (logits) batch_.logit_rows.push_back(int(begin + count - 1));
    rows_.push_back(rows);
}

Tensor Pass::run() {
    const Tensor x = ctx_.arena.get(ctx_.activations, {rows(), decoder_.width()});
    int64_t at = 0;
    for (const View& part : rows_) {
        copy(ctx_, part, x.slice(0, at, part.dim[0]));
        at += part.dim[0];
    }
    return decoder_.forward(ctx_, x, batch_, cache_.layers());
}

}  // namespace internvl
