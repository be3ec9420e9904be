#include "engine/engine.h"

#include <fmt/format.h>

#include <algorithm>
#include <numeric>

#include "base/cpu.h"
#include "model/lora.h"
#include "model/rope.h"
#include "model/tensors.h"

namespace internvl {

// Tiles that pass through the vision tower together: enough rows to keep the products busy, few
// enough for memory.
static constexpr int tiles_at_once = 2;

Engine::Engine(const ModelFolder& folder, const LoadOptions& options)
    : pool_(std::make_unique<ThreadPool>(options.threads > 0 ? options.threads : usable_cores())),
      arena_(std::make_unique<Arena>()),
      context_{cpu_kernels(), *pool_, *arena_, DType::f32} {
    const auto json = folder.read("config.json");
    if (!json) throw Error("no model here", "a folder with config.json", "none", folder.where());
    ModelConfig config = parse_config(*json, folder.where() + "/config.json");
    tokenizer_ =
        Tokenizer::load([&](const std::string& name) { return folder.read(name); }, folder.where());
    template_ = &find_template(config.template_name);
    system_ = config.system_message.value_or(template_->default_system);
    stop_token_ = tokenizer_.find(template_->stop).value_or(-1);
    context_token_ = tokenizer_.find("<IMG_CONTEXT>").value_or(-1);
    if (stop_token_ < 0 || context_token_ < 0)
        throw Error("the tokenizer lacks a token that the model needs",
                    template_->stop + " and <IMG_CONTEXT>",
                    stop_token_ < 0 ? "no " + template_->stop : "no <IMG_CONTEXT>", folder.where());
    if (tokenizer_.size() > config.text.vocab)
        throw Error("the tokenizer has more ids than the model has rows",
                    fmt::format("at most {}", config.text.vocab),
                    fmt::format("{}", tokenizer_.size()), folder.where());
    checkpoint_ = std::make_unique<Checkpoint>(folder);
    unwrap_adapters(*checkpoint_);
    config.layout = layout_of(*checkpoint_, config.layout);
    check_tensors(*checkpoint_, config);
    types_ = choose_types(options.dtype, config.dtype, context_.kernels.native_bf16);
    context_.activations = types_.activations;
    context_.cancel = &cancel;
    model_ = load_model(context_, *checkpoint_, config, types_);
    load_ms_ = start_.ms();
}

Tensor Engine::encode(Context& ctx, const Tiles& tiles, int at_once,
                      const std::function<void(int, int)>& on_tiles) {
    const Vision& vision = model_.vision;
    const int64_t rows = vision.rows_per_tile(), side = tiles.side;
    Tensor all = make_tensor(ctx.activations, {tiles.count * rows, model_.decoder.width()});
    for (int first = 0; first < tiles.count; first += at_once) {
        const int count = std::min(at_once, tiles.count - first);
        if (on_tiles) on_tiles(first, tiles.count);
        const Tensor pixels = ctx.arena.get(ctx.activations, {count, 3, side, side});
        if (ctx.activations == DType::f32)
            normalise(tiles, first, count, pixels.as<float>(), &ctx.pool);
        else
            normalise(tiles, first, count, pixels.as<uint16_t>(), &ctx.pool);
        copy(ctx, vision.forward(ctx, pixels), all.slice(0, first * rows, count * rows));
    }
    if (on_tiles) on_tiles(tiles.count, tiles.count);
    return all;
}

Tensor Engine::encode(const Tiles& tiles, const std::function<void(int, int)>& on_tiles) {
    return encode(context_, tiles, tiles_at_once, on_tiles);
}

// Tokens [position, position + count) of a sequence that lies in a cache of its own.
static Batch batch_of(int64_t position, int64_t count, const KvCache& cache,
                      const RopeFrequencies& rope, std::vector<int> logit_rows) {
    Batch batch;
    batch.positions.resize(size_t(count));
    std::iota(batch.positions.begin(), batch.positions.end(), int32_t(position));
    batch.slots = batch.positions;  // the block table is the identity
    batch.spans = {{0, count, position + count, cache.block_table()}};
    batch.rope = {&rope};
    batch.logit_rows = std::move(logit_rows);
    return batch;
}

static KvCache cache_for(const Decoder& d, DType dtype, int64_t tokens) {
    return {int64_t(d.layers.size()), d.kv_heads, d.head_dim, dtype, tokens};
}

// Logits of the last prompt token, [1, vocab].
Tensor Engine::prefill(const Generation& g, KvCache& cache, const RopeFrequencies& rope) {
    const Tensor rows = model_.embed(context_, g.prompt, g.picture_rows, context_token_);
    const int64_t total = int64_t(g.prompt.size());
    for (int64_t first = 0;; first += g.prefill_chunk) {
        const int64_t count = std::min(g.prefill_chunk, total - first);
        const bool last = first + count == total;
        const Batch batch = batch_of(first, count, cache, rope,
                                     last ? std::vector<int>{int(count - 1)} : std::vector<int>{});
        Tensor logits = model_.decoder.forward(context_, {rows.slice(0, first, count), rows.owner},
                                               batch, cache.layers());
        if (last) return logits;
    }
}

Answer Engine::generate(const Generation& g) {
    const int64_t limit = model_.config.text.max_positions, prompt = int64_t(g.prompt.size());
    if (prompt == 0) throw Error("the prompt is empty", "at least one token", "none");
    if (prompt >= limit)
        throw Error("the prompt does not fit the model", fmt::format("fewer than {} tokens", limit),
                    fmt::format("{}", prompt));
    const int64_t room = std::min<int64_t>(g.options.max_new_tokens, limit - prompt);
    Sampler sampler(g.options, model_.config.text.bos_token.value_or(stop_token_), stop_token_);
    KvCache cache = cache_for(model_.decoder, context_.activations, prompt + room);
    const RopeFrequencies rope = rope_frequencies(model_.config.text, prompt + room);
    Answer answer;
    Stopwatch watch;
    try {
        Tensor logits = prefill(g, cache, rope);
        answer.prefill_ms = watch.lap();
        for (;;) {
            const std::span<const float> scores(logits.as<float>(), size_t(logits.dim[1]));
            if (g.on_logits) g.on_logits(scores);
            const int id = sampler.next(scores, answer.ids);
            answer.ids.push_back(id);
            if (id == stop_token_ && !g.options.ignore_eos) {
                answer.end = Answer::End::stop;
                break;
            }
            if (g.on_token && !g.on_token(id)) {
                answer.end = Answer::End::stop;
                break;
            }
            const int64_t made = int64_t(answer.ids.size());
            if (made >= room) break;
            const Tensor row = gather_rows(context_, model_.decoder.embedding, {&id, 1});
            logits = model_.decoder.forward(
                context_, row, batch_of(prompt + made - 1, 1, cache, rope, {0}), cache.layers());
        }
    } catch (const Cancelled&) {
        answer.end = Answer::End::cancelled;
    }
    answer.decode_ms = watch.ms();
    return answer;
}

void Engine::trace(std::span<const int> prompt, const Tiles* tiles, bool last_logits,
                   const std::function<void(const std::string&, const View&)>& watch) {
    Context watched = context_;
    watched.watch = watch;
    const Tensor pictures = tiles ? encode(watched, *tiles, tiles->count, {}) : Tensor();
    const int64_t total = int64_t(prompt.size());
    KvCache cache = cache_for(model_.decoder, context_.activations, total);
    std::vector<int> wanted(last_logits ? 1 : prompt.size(), int(total - 1));
    if (!last_logits) std::iota(wanted.begin(), wanted.end(), 0);
    const Tensor rows = model_.embed(watched, prompt, pictures, context_token_);
    const RopeFrequencies rope = rope_frequencies(model_.config.text, total);
    model_.decoder.forward(watched, rows, batch_of(0, total, cache, rope, wanted), cache.layers());
}

}  // namespace internvl
