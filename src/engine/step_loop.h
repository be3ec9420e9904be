#pragma once
#include <deque>
#include <list>
#include <memory>

#include "engine/engine.h"
#include "engine/kv_cache.h"
#include "engine/pass.h"
#include "engine/sampler.h"

namespace internvl {

struct LoopOptions {
    int max_sequences = 8;     // in the making at a time
    int64_t cache_tokens = 0;  // keys and values held at a time
    int64_t chunk = 512;       // tokens of one pass at most; does not change a bit of any answer
    // Compute as one instance of the reference: its rotary tables, which look at the longest of all
    // sequences, and all of them in step (spec 6.3). Null: each sequence by itself.
    ReferenceRope* reference = nullptr;
};

// Makes several answers together: in each pass every running sequence moves on by one token, and
// what room is left goes to the prompts of those that follow, in order. A sequence's tokens do not
// depend on its company.
class StepLoop {
  public:
    StepLoop(Engine&, const LoopOptions&);
    ~StepLoop();

    // Whether the cache can ever hold the prompt and its answer. Throws Error for a prompt that
    // does not fit the model.
    bool fits(const Generation&) const;
    // Throws Error for options out of range and for a prompt that can never fit.
    void add(Generation);
    bool step();  // one pass; false when no sequence is left
    int unfinished() const { return int(waiting_.size() + running_.size()); }

  private:
    struct Sequence;
    void admit();
    bool take_blocks(Sequence&);
    void name_full_blocks(Sequence&);
    void plan(Pass&, std::vector<Sequence*>& chosen);
    const RopeFrequencies& rope_of(const Sequence&) const;
    void choose(Sequence&, std::span<const float> logits);
    void end(Sequence&, Answer::End);
    void remove_ended();

    Engine& engine_;
    LoopOptions options_;
    bool reuse_;  // of what begins alike; keys under `reference` follow from more than names tell
    std::shared_ptr<KvCache> cache_;
    std::deque<std::unique_ptr<Sequence>> waiting_;
    std::list<std::unique_ptr<Sequence>> running_;
    const RopeFrequencies* common_rope_ = nullptr;  // of this pass, for the reference
    int64_t longest_prompt_ = 0, decode_passes_ = 0;
};

}  // namespace internvl
