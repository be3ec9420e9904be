#include "engine/engine.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>
#include <numeric>

#include "base/cpu.h"
#include "base/error.h"
#include "base/log.h"
#include "base/memory.h"
#include "engine/beam_search.h"
#include "engine/pass.h"
#include "engine/prompt.h"
#include "engine/step_loop.h"
#include "engine/tower.h"
#include "model/families.h"
#include "model/identity.h"
#include "model/lora.h"
#include "model/memory.h"
#include "model/tensors.h"

namespace internvl {

QuantPolicy quant_policy(const LoadOptions& options) {
    QuantPolicy policy = parse_quant(options.quant);
    const auto part = [](const std::string& name, const char* flag, bool int4, Quant& quant) {
        if (name.empty()) return;
        quant = parse_quant(name);
        if (quant == Quant::int4 && !int4)
            throw UsageError(fmt::format("{} cannot be int4", flag), "none or int8", name);
    };
    part(options.quant_vision, "--quant-vision", false, policy.vision);
    part(options.quant_projector, "--quant-projector", false, policy.projector);
    part(options.quant_language, "--quant-language", true, policy.language);
    part(options.quant_head, "--quant-head", false, policy.head);
    return policy;
}

// What the original's load_in_8bit leaves alone, by the two ways it was written (spec 8.1).
static void choose_llm_int8(const LoadOptions& options, const ModelConfig& config,
                            ComputeTypes& types) {
    if (config.quant.method != FiledQuant::Method::none)
        throw Error("LLM.int8 needs a folder that is not quantised", "", config.quant.parts.text());
    if (types.quant.language == Quant::int4)
        throw UsageError("the original has no int4", "--quant int8", "int4");
    types.outliers_from = options.llm_int8_threshold;
    if (options.llm_int8_skip == "head")
        types.quant.head = Quant::none;
    else if (options.llm_int8_skip == "mlp1.3")
        types.left_alone = vision_names(config).projector_out.weights[0];
    else
        throw UsageError("unknown product to leave alone", "head or mlp1.3", options.llm_int8_skip);
}

Engine::Engine(const ModelFolder& folder, const LoadOptions& options)
    : pool_(std::make_unique<ThreadPool>(options.threads > 0 ? options.threads : usable_cores())),
      arena_(std::make_unique<Arena>()),
      context_{cpu_kernels(), *pool_, *arena_, DType::f32},
      vision_cache_(int64_t(options.vision_cache_mb) << 20),
      row_folder_(options.vision_cache_folder) {
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
    types_.quant = quant_policy(options).over(config.quant.parts);
    types_.cache_in_bytes = parse_kv_cache(options.kv_cache);
    if (!options.llm_int8_skip.empty()) choose_llm_int8(options, config, types_);
    memory_check(config, types_, folder.where());
    context_.activations = types_.activations;
    context_.cancel = &cancel;
    if (!options.weight_cache_folder.empty()) weight_cache_.emplace(options.weight_cache_folder);
    model_ = load_model(context_, *checkpoint_, config, types_,
                        weight_cache_ ? &*weight_cache_ : nullptr, options.on_load);
    kept_tokens_ = tokens_to_keep(options);
    if (types_.outliers_from > 0) {  // what a row becomes depends on its company
        vision_cache_ = VisionCache(0);
        row_folder_.clear();
        kept_tokens_ = 0;
    }
    load_ms_ = start_.ms();
}

DigestKey Engine::answers_identity() {
    return internvl::answers_identity(context_, *checkpoint_, types_);
}

// Not before there is a picture: the identity costs a look at one.
void Engine::open_row_files() {
    if (row_folder_.empty()) return;
    vision_cache_.use_files({row_folder_, vision_identity(context_, *checkpoint_, model_, types_)});
    row_folder_.clear();
}

Tensor Engine::known_rows(const DigestKey& tile) {
    open_row_files();
    return vision_cache_.find(tile, context_.activations, model_.vision.rows_per_tile(),
                              model_.decoder.width());
}

std::vector<PictureRows> Engine::encode(std::span<const Tiles* const> pictures,
                                        const OnTiles& on_tiles) {
    const int64_t rows = model_.vision.rows_per_tile(), width = model_.decoder.width();
    std::unordered_map<DigestKey, Tensor, DigestKeyHash> known;  // rows of each tile
    std::vector<PictureRows> all(pictures.size());
    Tower tower(context_, model_.vision, types_.outliers_from > 0);
    int tiles = 0, unknown = 0;
    for (size_t p = 0; p < pictures.size(); ++p) {
        const std::shared_ptr<const Tiles> picture(std::shared_ptr<void>(), pictures[p]);  // lent
        for (int t = 0; t < picture->count; ++t, ++tiles) {
            const DigestKey& key = all[p].keys.emplace_back(tile_key(*picture, t));
            const auto [at, first_time] = known.try_emplace(key);
            if (!first_time) continue;
            at->second = known_rows(key);
            if (!at->second) unknown += tower.want(p, size_t(t), {picture, t}, key);
        }
    }
    for (int done = tiles - unknown; tower.busy();) {
        if (on_tiles) on_tiles(done, tiles);
        const Tower::Work work = tower.advance(std::numeric_limits<double>::infinity(), {});
        for (const Tower::Seen& seen : work.seen) {
            keep_rows(seen.key, seen.rows);
            known[seen.key] = seen.rows;
            ++all[seen.wanted[0].first].computed;
            ++done;
        }
    }
    // The language model wants other sizes; what the tower needed would only lie beside them.
    if (unknown > 0) context_.arena.trim();
    if (on_tiles) on_tiles(tiles, tiles);
    for (PictureRows& p : all) {
        p.rows = make_tensor(context_.activations, {int64_t(p.keys.size()) * rows, width});
        for (size_t t = 0; t < p.keys.size(); ++t)
            copy(context_, known[p.keys[t]], p.rows.slice(0, int64_t(t) * rows, rows));
    }
    return all;
}

PictureRows Engine::encode(const Tiles& tiles, const OnTiles& on_tiles) {
    const Tiles* const one = &tiles;
    return std::move(encode({&one, 1}, on_tiles)[0]);
}

Tensor Engine::embed(std::span<const int> ids, const View& picture_rows) {
    return model_.embed(context_, ids, picture_rows, context_token_);
}

Tensor Engine::embed(const Generation& g) {
    return embed(g.prompt, g.pictures.rows);
}

PrefixNames Engine::prefix_names(const Generation& g, const RopeFrequencies& rope,
                                 const std::string& scope) const {
    PrefixNames names(rope, scope);
    const bool given = bool(g.pictures.rows);
    const std::vector<DigestKey>& keys = given ? g.pictures.keys : g.unseen_keys;
    const int64_t each = model_.vision.rows_per_tile();
    const int64_t rows = given ? g.pictures.rows.dim[0] : int64_t(keys.size()) * each;
    const bool known =
        rows == int64_t(keys.size()) * each && rows == std::ranges::count(g.prompt, context_token_);
    int64_t place = 0;
    for (const int id : g.prompt) {
        if (rows == 0 || id != context_token_) {
            names.append(id);
        } else if (known) {
            names.append(id, keys[size_t(place / each)], int(place % each));
            ++place;
        } else {
            names.end();
        }
    }
    return names;
}

KvCache Engine::make_cache(int64_t tokens) const {
    const Decoder& d = model_.decoder;
    return {int64_t(d.layers.size()), d.kv_heads, d.head_dim, types_.cache(), tokens};
}

// What the family was trained with (spec 5.0): longer prompts are computed, with a notice.
static constexpr int64_t trained_context = 8192;

int64_t Engine::tokens_to_keep(const LoadOptions& options) const {
    const int64_t each = cache_bytes(model_.config.text, types_.cache());
    if (options.prefix_cache_mb) return (int64_t(*options.prefix_cache_mb) << 20) / each;
    const int64_t usual = std::max(trained_context, (int64_t(256) << 20) / each);
    return std::min(usual, available_memory() / 2 / each);
}

std::shared_ptr<KvCache> Engine::borrow_cache(int64_t tokens) {
    if (!keeps_prefixes() || cache_.use_count() > 1)
        return std::make_shared<KvCache>(make_cache(tokens));
    const int64_t size = cache_ ? cache_->max_tokens() : 0;
    // Larger than what is to be kept only while somebody needs it.
    const bool oversized = size >= kept_tokens_ + cache_block && tokens <= kept_tokens_;
    if (size < tokens || oversized) {
        auto fresh = std::make_shared<KvCache>(make_cache(std::max(tokens, kept_tokens_)));
        if (cache_) fresh->adopt(*cache_);
        cache_ = std::move(fresh);
    }
    return cache_;
}

int64_t Engine::cache_memory() const {
    const int64_t idle = cache_ ? cache_->idle_tokens() : 0;
    return available_memory() + idle * cache_bytes(model_.config.text, types_.cache());
}

Sampler Engine::make_sampler(const GenerateOptions& options) const {
    return {options, model_.config.text.bos_token.value_or(stop_token_), stop_token_};
}

int64_t Engine::room(const Generation& g) const {
    const TextConfig& text = model_.config.text;
    // The reference stops at no length; positions beyond the table are refused here, unless the
    // model has a rule for them. A table shorter than what it was trained with (40B) is no limit.
    const int64_t limit = text.rope.kind == RopeScaling::Kind::dynamic_ntk
                              ? most_positions
                              : std::max(text.max_positions, trained_context);
    const int64_t prompt = int64_t(g.prompt.size());
    if (prompt == 0) throw Error("the prompt is empty", "at least one token", "none");
    if (prompt >= limit) {
        const int64_t seen = std::ranges::count(g.prompt, context_token_), tile = tokens_per_tile;
        const int64_t fit = std::max<int64_t>(0, limit - 1 - (prompt - seen)) / tile;
        throw Error("the prompt does not fit the model", fmt::format("fewer than {} tokens", limit),
                    seen == 0 ? fmt::format("{}", prompt)
                              : fmt::format("{}: {} of text and {} of {} tiles; {} tiles would fit "
                                            "(--total-max-num, --num-segments)",
                                            prompt, prompt - seen, seen, seen / tile, fit));
    }
    return std::min<int64_t>(g.options.max_new_tokens, limit - prompt);
}

int64_t Engine::check_room(const Generation& g) const {
    const int64_t prompt = int64_t(g.prompt.size()), room = this->room(g);
    const int64_t each = cache_bytes(model_.config.text, types_.cache());
    const int64_t fit = cache_memory() / each;
    if (prompt + room > fit)
        throw Error(
            "keys and values of prompt and answer do not fit in memory",
            fmt::format("at most {} tokens here, {} bytes each", fit, each),
            fmt::format("{}: {} of the prompt, {} that may follow", prompt + room, prompt, room));
    return room;
}

void Engine::notice_length(size_t prompt) const {
    if (prompt > size_t(trained_context))
        log_warning("the prompt has {} tokens; the model was trained with up to {}", prompt,
                    trained_context);
}

Answer Engine::generate(const Generation& g, ReferenceRope* reference, int64_t chunk) {
    if (g.options.num_beams > 1) return beam_search(*this, g, reference);
    StepLoop loop(*this, {.max_sequences = 1,
                          .cache_tokens = int64_t(g.prompt.size()) + check_room(g),
                          .chunk = types_.outliers_from > 0 ? int64_t(g.prompt.size()) : chunk,
                          .reference = reference});
    Answer answer;
    Generation one = g;
    one.on_end = [&answer](Answer a) { answer = std::move(a); };
    loop.add(std::move(one));
    while (loop.step()) {
    }
    if (answer.error) std::rethrow_exception(answer.error);
    return answer;
}

void Engine::trace(std::span<const int> prompt, const Tiles* tiles, bool last_logits,
                   const std::function<void(const std::string&, const View&)>& watch) {
    Context watched = context_;
    watched.watch = watch;
    std::vector<TilePlace> places;
    const std::shared_ptr<const Tiles> lent(std::shared_ptr<void>(), tiles);
    for (int t = 0; tiles && t < tiles->count; ++t) places.push_back({lent, t});
    const Tensor pictures =
        tiles ? model_.vision.forward(watched, pixels(watched, places)) : Tensor();
    const int64_t total = int64_t(prompt.size());
    KvCache cache = make_cache(total);
    const std::vector<int32_t> blocks = cache.take(total);
    const Tensor rows = model_.embed(watched, prompt, pictures, context_token_);
    const RopeFrequencies rope = rope_frequencies(model_.config.text, total);
    Pass pass(watched, model_.decoder, cache);
    pass.add(blocks, 0, rows, rope, true);
    if (!last_logits) {
        pass.batch().logit_rows.resize(prompt.size());
        std::iota(pass.batch().logit_rows.begin(), pass.batch().logit_rows.end(), 0);
    }
    pass.run();
}

}  // namespace internvl
