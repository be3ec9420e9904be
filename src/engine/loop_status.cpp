#include "engine/loop_status.h"

#include <algorithm>

namespace internvl {

// Follows what is measured, the faster the more it says.
static void follow(double& value, double measured, double share) {
    value = value > 0 ? (1 - share) * value + share * measured : measured;
}

void StepCosts::learn_pass(int decode_rows, int64_t prefill_tokens, double ms) {
    if (prefill_tokens == 0) {
        if (decode_rows > 0) follow(decode_ms, ms, 0.2);
        return;
    }
    // What the prompt added; noise must not make it free.
    const double rest = std::max(ms - (decode_rows > 0 ? decode_ms : 0), 0.02 * ms);
    follow(token_ms, rest / double(prefill_tokens),
           0.4 * std::min(1.0, double(prefill_tokens) / 64));
}

void StepCosts::learn_tiles(int tiles, double ms) {
    if (tiles > 0) follow(tile_ms, ms / tiles, 0.3);
}

void StepCosts::learn_answer(int64_t tokens) {
    follow(answer_tokens, double(tokens), 0.1);
}

}  // namespace internvl
