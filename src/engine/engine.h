#pragma once
#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/clock.h"
#include "engine/generation.h"
#include "engine/kv_cache.h"
#include "engine/prefix_names.h"
#include "engine/sampler.h"
#include "engine/vision_cache.h"
#include "io/folder.h"
#include "media/tile.h"
#include "model/internvl.h"
#include "model/rope.h"
#include "model/weight_cache.h"
#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace internvl {

// What the options say of each part. Throws UsageError.
QuantPolicy quant_policy(const LoadOptions&);

// A model with its tokenizer on this machine: pictures to rows, prompts to tokens.
class Engine {
  public:
    Engine(const ModelFolder&, const LoadOptions&);

    // Rows of each picture's tiles. Those that are not known from before pass through the vision
    // tower, once each, a few of different pictures together.
    using OnTiles = std::function<void(int done, int tiles)>;
    std::vector<PictureRows> encode(std::span<const Tiles* const>, const OnTiles& = {});
    PictureRows encode(const Tiles& tiles, const OnTiles& on_tiles = {});
    // One answer: prefill, then one token after the other, or beam search. `chunk`: prompt tokens
    // computed at a time. Throws Error when the prompt does not fit, or what made the answer fail.
    Answer generate(const Generation&, ReferenceRope* reference = nullptr, int64_t chunk = 512);
    // One pass over a whole prompt that shows every stage to `watch`; logits of all rows, or of the
    // last one only.
    void trace(std::span<const int> prompt, const Tiles* tiles, bool last_logits,
               const std::function<void(const std::string&, const View&)>& watch);

    // Rows of a tile that are known from before, or none; and those of one that was seen now.
    Tensor known_rows(const DigestKey& tile);
    void keep_rows(const DigestKey& tile, const Tensor& rows) { vision_cache_.keep(tile, rows); }
    const VisionCache& vision_cache() const { return vision_cache_; }

    // Parts of an answer's way. How many tokens may follow the prompt; throws Error when none may.
    int64_t check_room(const Generation&) const;
    // The same whatever memory is left; may be asked from any thread.
    int64_t room(const Generation&) const;
    void notice_length(size_t prompt) const;  // warns beyond what the family was trained with
    Sampler make_sampler(const GenerateOptions&) const;
    KvCache make_cache(int64_t tokens) const;
    // A cache for so many tokens at a time that remembers what earlier borrowers computed. While
    // somebody has it, and where nothing is to be kept, a fresh one.
    std::shared_ptr<KvCache> borrow_cache(int64_t tokens);
    bool keeps_prefixes() const { return kept_tokens_ != 0; }
    int64_t cache_memory() const;  // bytes that keys and values can still take
    // Names of the prompt's full blocks for a sequence with these rotary frequencies, within a
    // scope.
    PrefixNames prefix_names(const Generation&, const RopeFrequencies&,
                             const std::string& scope) const;
    Tensor embed(const Generation&);  // the prompt, [rows, width]
    // Any part of one, with the rows of the pictures in it.
    Tensor embed(std::span<const int> ids, const View& picture_rows);

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
    DigestKey answers_identity();  // model/identity.h; not while something is computed
    // Whether another run had packed the weights.
    bool packed_before() const { return weight_cache_ && weight_cache_->found(); }

    // Ends the running call as soon as the layer at hand is done; may be set from a signal handler.
    std::atomic<bool> cancel{false};

  private:
    void open_row_files();
    int64_t tokens_to_keep(const LoadOptions&) const;

    Stopwatch start_;
    std::unique_ptr<ThreadPool> pool_;
    std::unique_ptr<Arena> arena_;
    Context context_;
    ComputeTypes types_;
    std::unique_ptr<Checkpoint> checkpoint_;
    std::optional<WeightCache> weight_cache_;
    Tokenizer tokenizer_;
    InternVL model_;
    const ChatTemplate* template_ = nullptr;
    std::string system_;
    int stop_token_ = -1, context_token_ = -1;
    VisionCache vision_cache_;
    std::string row_folder_;   // to be opened when the first picture comes
    int64_t kept_tokens_ = 0;  // of keys and values
    std::shared_ptr<KvCache> cache_;
    double load_ms_ = 0;
};

}  // namespace internvl
