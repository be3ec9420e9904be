#pragma once
#include <map>
#include <memory>

#include "engine/engine.h"
#include "engine/kv_cache.h"
#include "engine/loop_status.h"
#include "engine/pass.h"
#include "engine/scheduler.h"
#include "engine/tower.h"

namespace internvl {

struct LoopOptions {
    int max_sequences = 8;      // in the making at a time
    int64_t cache_tokens = 0;   // keys and values held at a time
    bool own_cache = false;     // of just that size, which remembers nothing from before the loop
    int64_t chunk = 512;        // prompt tokens a step; does not change a bit of any answer
    double step_budget_ms = 0;  // of a step for pictures and prompts while answers run, 0 = any
    // Compute as one instance of the reference: its rotary tables, which look at the longest of all
    // sequences, and all of them in step (spec 6.3). Null: each sequence by itself.
    ReferenceRope* reference = nullptr;
    std::function<void(const StepReport&)> on_step = {};  // heard after each step

    // For an EngineThread: how many may wait, and how long one may have to; 0 = any.
    int max_queue = 0;
    double max_queue_s = 0;
};

// Makes several answers together: in each step every running sequence moves on by one token, and
// what room and time is left goes to the pictures and prompts of those that follow. The scheduler
// decides, the loop computes. A sequence's tokens do not depend on its company.
class StepLoop {
  public:
    using Clock = Entry::Clock;

    StepLoop(Engine&, const LoopOptions&);
    ~StepLoop();  // what has not ended is dropped, unheard

    // Whether the cache can ever hold the prompt and its answer. Throws Error for a prompt that
    // does not fit the model.
    bool fits(const Generation&) const;
    // Throws Error for options out of range, for a prompt that can never fit and for one whose
    // places are not those of its pictures. May be asked from any thread.
    void check(const Generation&) const;
    // Its number, from 1 on in the order of arrival; `id` is one that the caller has chosen so.
    // Throws what check() throws.
    uint64_t add(Generation, uint64_t id = 0);
    // Ends a sequence as cancelled, in the middle of a step after it: its blocks are free, its
    // tiles are dropped. Unknown numbers are those of answers that have ended.
    void cancel(uint64_t);
    void cancel_all();
    void fail_all(const std::exception_ptr&);  // the same, as failed
    // False when no sequence is left. What fails in it ends the answers concerned as failed; only
    // what an on_end throws comes out.
    bool step();
    int unfinished() const { return int(sequences_.size() - ended_.size()); }
    LoopStatus status() const;

  private:
    struct Sequence;
    Sequence& of(const Entry& e) { return *sequences_.at(e.id); }
    void begin(Sequence&);
    void put_back(Sequence&);
    void see(Sequence&, int64_t first_place);
    View picture_rows(const Sequence&, int64_t first, Tensor& keeper);
    void embed(Sequence&, int64_t first);
    void embed_new(Step&);
    void count_prefill(const Chunk&);
    Tensor run_pass(const Step&, std::vector<Sequence*>& chosen, StepReport&);
    void move_on(const Step&, StepReport&);
    void run_tower(double ms, StepReport&);
    void look(double ms, StepReport&);
    void name_full_blocks(Sequence&);
    void name_full_blocks(const Step&);
    const RopeFrequencies& rope_of(const Sequence&) const;
    void choose(Sequence&, std::span<const float> logits);
    void end(Sequence&, Answer::End, std::exception_ptr = {});
    void compute(StepReport&);
    void sweep();

    Engine& engine_;
    LoopOptions options_;
    bool shares_;  // blocks; keys under `reference` follow from more than names tell
    bool keeps_;   // them for those that come later
    std::shared_ptr<KvCache> cache_;
    Scheduler scheduler_;
    Tower tower_;
    std::map<uint64_t, std::unique_ptr<Sequence>> sequences_;
    std::vector<uint64_t> ended_;  // in this step
    uint64_t last_id_ = 0;
    bool stepping_ = false;
    const RopeFrequencies* common_rope_ = nullptr;  // of this pass, for the reference
    int64_t longest_prompt_ = 0, decode_passes_ = 0;
    LoopStatus counts_;
};

}  // namespace internvl
