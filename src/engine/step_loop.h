#pragma once
#include <list>
#include <memory>
#include <unordered_map>

#include "engine/engine.h"
#include "engine/kv_cache.h"
#include "engine/loop_status.h"
#include "engine/pass.h"
#include "engine/sampler.h"
#include "engine/scheduler.h"
#include "engine/tower.h"

namespace internvl {

struct LoopOptions {
    int max_sequences = 8;     // in the making at a time
    int64_t cache_tokens = 0;  // keys and values held at a time
    int64_t chunk = 512;       // prompt tokens of one pass; does not change a bit of any answer
    int max_queue = 0;         // sequences that may wait, 0 = any number
    double step_budget_ms = 0;  // of a step for pictures and prompts while answers run, 0 = any
    // Compute as one instance of the reference: its rotary tables, which look at the longest of all
    // sequences, and all of them in step (spec 6.3). Null: each sequence by itself.
    ReferenceRope* reference = nullptr;
    std::function<void(const StepReport&)> on_step = {};  // heard after each step
};

// Makes several answers together: in each step every running sequence moves on by one token, and
// what room and time is left goes to the pictures and prompts of those that follow. The scheduler
// decides, the loop computes. A sequence's tokens do not depend on its company.
class StepLoop {
  public:
    using Clock = std::chrono::steady_clock;

    StepLoop(Engine&, const LoopOptions&);
    ~StepLoop();  // what has not ended is dropped, unheard

    // Whether the cache can ever hold the prompt and its answer. Throws Error for a prompt that
    // does not fit the model.
    bool fits(const Generation&) const;
    // -> its number, from 1. Throws Error for options out of range and for a prompt that can never
    // fit, QueueFull when too many wait.
    uint64_t add(Generation);
    // Ends a sequence as cancelled, at once: its blocks are free, its tiles are dropped. Unknown
    // numbers are those of answers that have ended.
    void cancel(uint64_t);
    bool step();  // false when no sequence is left
    // Ends those that are in the making, as failed; others go on waiting.
    void fail_running(std::exception_ptr);
    int unfinished() const { return int(sequences_.size()); }
    LoopStatus status() const;

  private:
    struct Sequence;
};

}  // namespace internvl
