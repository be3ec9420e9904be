#pragma once
#include <span>
#include <vector>

#include "engine/kv_cache.h"
#include "model/internvl.h"

namespace internvl {

// Rows of several sequences for one run through the decoder.
class Pass {
  public:
    Pass(Context& ctx, const Decoder& decoder, const KvCache& cache)
        : ctx_(ctx), decoder_(decoder), cache_(cache) {}

    // Tokens [first, first + rows) of the sequence that lies in `blocks`, as embeddings [rows,
    // width] of any float type. All arguments must live until run(). `logits`: of the last row.
    void add(std::span<const int32_t> blocks, int64_t first, const View& rows,
             const RopeFrequencies& rope, bool logits);
    int64_t rows() const { return int64_t(batch_.positions.size()); }
    Batch& batch() { return batch_; }

    Tensor run();  // -> [additions with logits, vocab] f32, absent when there are none

  private:
    Context& ctx_;
    const Decoder& decoder_;
    const KvCache& cache_;
    Batch batch_;
    std::vector<View> rows_;
};

}  // namespace internvl
