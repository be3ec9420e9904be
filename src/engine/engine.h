#pragma once
#include <atomic>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "base/clock.h"
#include "engine/kv_cache.h"
#include "engine/sampler.h"
#include "internvl/options.h"
#include "io/folder.h"
#include "media/tile.h"
#include "model/internvl.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace internvl {

// An answer in the making: what to compute, and who hears of it.
struct Generation {
    std::vector<int> prompt;  // ids
    Tensor picture_rows;      // [places, width], absent without pictures
    GenerateOptions options;
    std::function<bool(int id)> on_token;  // false ends the answer; the stop token is not shown
    std::function<void(std::span<const float>)> on_logits;  // [vocab] before each choice
    int64_t prefill_chunk =
        512;  // prompt tokens computed at a time; does not change a bit of the answer
};

struct Answer {
    std::vector<int> ids;  // the stop token included, as the reference keeps it
    enum class End { stop, length, cancelled } end = End::length;
    double prefill_ms = 0, decode_ms = 0;
};

// A model with its tokenizer on this machine: pictures to rows, prompts to tokens.
class Engine {
  public:
    Engine(const ModelFolder&, const LoadOptions&);

    // Rows of all tiles, [tiles*256, width]; a few tiles at a time bound the memory.
    Tensor encode(const Tiles&, const std::function<void(int done, int tiles)>& on_tiles = {});
    // Prefill, then one token after the other. Throws Error when the prompt does not fit the
    // model's positions.
    Answer generate(const Generation&);
    // One pass over a whole prompt that shows every stage to `watch`; logits of all rows, or of the
    // last one only.
    void trace(std::span<const int> prompt, const Tiles* tiles, bool last_logits,
               const std::function<void(const std::string&, const View&)>& watch);

    const InternVL& model() const { return model_; }
    const Tokenizer& tokenizer() const { return tokenizer_; }
    const ChatTemplate& chat_template() const { return *template_; }
    // The template's default, or the checkpoint's own (spec 6.1).
    const std::string& system_message() const { return system_; }
    int stop_token() const { return stop_token_; }
    int context_token() const { return context_token_; }
    ThreadPool& pool() { return *pool_; }
    Context& context() { return context_; }
    const ComputeTypes& types() const { return types_; }
    double load_ms() const { return load_ms_; }

    // Ends the running call as soon as the layer at hand is done; may be set from a signal handler.
    std::atomic<bool> cancel{false};

  private:
    Tensor encode(Context&, const Tiles&, int at_once,
                  const std::function<void(int, int)>& on_tiles);
    Tensor prefill(const Generation&, KvCache&, const RopeFrequencies&);

    Stopwatch start_;
    std::unique_ptr<ThreadPool> pool_;
    std::unique_ptr<Arena> arena_;
    Context context_;
    ComputeTypes types_;
    std::unique_ptr<Checkpoint> checkpoint_;
    Tokenizer tokenizer_;
    InternVL model_;
    const ChatTemplate* template_ = nullptr;
    std::string system_;
    int stop_token_ = -1, context_token_ = -1;
    double load_ms_ = 0;
};

}  // namespace internvl
