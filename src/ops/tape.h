#pragma once
#include <functional>
#include <map>
#include <vector>

#include "ops/context.h"

namespace internvl {

// What a forward pass leaves behind for its backward pass (docs/training.md). Operations keep their
// results here and record closures that hand gradients on. The gradient of a view is the same view
// of a shadow, f32, that every known tensor has. Not for several threads.
class Tape {
  public:
    using Step = std::function<void(Context&)>;

    explicit Tape(Arena& arena) : arena_(arena) {}
    Tape(const Tape&) = delete;
    Tape& operator=(const Tape&) = delete;

    // A part of the model that is trained, and where its gradient is added: as many f32, contiguous
    // both. Packed weights are named by the shape [out, in] at their first byte. Both must outlive
    // the tape.
    void train(const View& value, const View& gradient);

    // The same elements of the shadow; absent for what the tape does not know, which is constant.
    View gradient(const View&);

    void keep(const Tensor&);  // until the steps recorded after it have run
    void record(Step);

    // Runs the steps, the last one first, and forgets them and what was kept. `ctx.tape` is this.
    void backward(Context& ctx);

  private:
    struct Shadow {
        int64_t bytes, element;  // of the values: all of them, one of them
        std::shared_ptr<void> owner;
        Tensor gradient;  // [elements], made when first asked for
    };
    struct Recorded {
        Step step;
        size_t kept;  // tensors known when it was recorded
    };
    void forget(size_t kept);

    Arena& arena_;
    std::map<const std::byte*, Shadow> shadows_;  // by where the values lie
    std::vector<const std::byte*> kept_;          // in the order of their making
    std::vector<Recorded> steps_;
};

inline Context without_tape(const Context& ctx) {
    Context plain = ctx;
    plain.tape = nullptr;
    return plain;
}

// Runs body(ctx). With a tape it runs unrecorded, and once more, recorded, when backward gets here:
// in between nothing of it is kept. What `body` refers to must live that long and be as it was.
template <class Body>
void recomputed(Context& ctx, const Body& body) {
    if (!ctx.tape) return body(ctx);
    Context plain = without_tape(ctx);
    body(plain);
    ctx.tape->record(body);
}

// The same for one that changes the rows x [rows, width] in place: a copy of them is kept.
template <class Body>
void checkpointed(Context& ctx, const View& x, const Body& body) {
    if (!ctx.tape) return body(ctx);
    const Tensor before = ctx.arena.get(x.dtype, {x.dim[0], x.dim[1]});
    ctx.kernels.copy(x, before, ctx.pool);
    Context plain = without_tape(ctx);
    body(plain);
    ctx.tape->record([x, before, body](Context& again) {
        again.kernels.copy(before, x, again.pool);
        body(again);
    });
}

}  // namespace internvl
