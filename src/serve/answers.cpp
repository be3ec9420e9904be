#include "serve/answers.h"

#include <fmt/format.h>

#include <algorithm>
#include <future>

#include "base/error.h"
#include "model/memory.h"
#include "serve/job.h"
#include "serve/station.h"

namespace internvl {

using Json = nlohmann::ordered_json;

struct Answers::State : Station {};

// What the family was trained with.
constexpr int64_t trained_context = 8192;

static int64_t seconds_since_1970() {
    return std::chrono::duration_cast<std::chrono::seconds>(
               std::chrono::system_clock::now().time_since_epoch())
        .count();
}

RequestDefaults settings_defaults(const Settings& s) {
    RequestDefaults d = service_defaults();
    RequestLimits& l = d.limits;
    l.max_model_len = s.max_model_len > 0 ? s.max_model_len : trained_context;
    l.max_n = s.max_n;
    l.max_tiles = s.max_tiles;
    l.max_images = s.max_images;
    l.max_videos = s.max_videos;
    l.max_frames = s.max_frames;
    l.max_deadline_ms = int64_t(s.request_timeout * 1000);
    l.max_tokenize_bytes = s.max_tokenize_bytes;
    l.lmdeploy_details = s.detail_map == "lmdeploy";
    l.clamp_max_tokens = s.clamp_max_tokens;
    l.control_tokens = s.allow_control_tokens;
    l.strict_fields = s.strict_fields;
    d.generate.max_new_tokens = int(s.default_max_tokens);
    d.image.exif_rotate = s.auto_orient;
    return d;
}

// ... and the model.
static RequestDefaults request_defaults(const Engine& engine, const Settings& s) {
    const ModelConfig& config = engine.model().config;
    RequestDefaults d = settings_defaults(s);
    RequestLimits& l = d.limits;
    l.vocabulary = engine.tokenizer().size();
    for (const char* token : {"<img>", "</img>", "<IMG_CONTEXT>"})
        if (const auto id = engine.tokenizer().find(token)) l.image_ids.push_back(*id);
    l.checkpoint_tiles = int(config.max_tiles);
    d.image.min_num = int(config.min_tiles);
    d.image.max_num = int(s.max_dynamic_patch > 0 ? s.max_dynamic_patch : config.max_tiles);
    d.image.thumbnail = config.use_thumbnail;
    d.image.tiling = config.dynamic_tiles;
    return d;
}

// Keys and values: enough for all that may run at a time, as far as memory goes, and for one that
// is as long as may be.
static int64_t cache_tokens(const Engine& engine, const Settings& s, int64_t longest) {
    const int64_t each = cache_bytes(engine.model().config.text, engine.types().cache());
    const int64_t bytes = s.kv_cache_mb > 0 ? s.kv_cache_mb << 20 : engine.cache_memory();
    const int64_t fit = bytes / each;
    if (fit < longest)
        throw Error("keys and values of the longest request do not fit in memory",
                    fmt::format("at most {} tokens here (--max-model-len, --kv-cache-mb)", fit),
                    fmt::format("{}", longest));
    return std::min(fit, (longest + cache_block) * s.max_batch);
}

static void count_step(Metrics& metrics, const StepReport& report) {
    metrics.observe("step_duration_seconds", report.ms / 1000);
    if (report.decode_rows + report.prefill_tokens > 0)
        metrics.observe("batch_rows", double(report.decode_rows + report.prefill_tokens));
    if (report.tiles > 0) metrics.observe("vit_batch_tiles", report.tiles);
    if (report.projector_ms > 0)
        metrics.observe("stage_duration_seconds", report.projector_ms / 1000, {"projector"});
}

static LoopOptions loop_options(const Engine& engine, const Settings& s, int64_t longest,
                                Metrics& metrics) {
    LoopOptions o;
    o.max_sequences = int(s.max_batch);
    o.cache_tokens = cache_tokens(engine, s, longest);
    o.own_cache = true;
    o.chunk = s.prefill_chunk / 16 * 16;
    o.step_budget_ms = s.step_budget_ms;
    o.max_queue = int(s.max_queue);
    o.max_queue_s = s.max_queue_seconds;
    o.on_step = [&metrics](const StepReport& report) { count_step(metrics, report); };
    return o;
}

static MediaLimits media_limits(const Settings& s) {
    MediaLimits l;
    l.picture_bytes = s.max_picture_bytes;
    l.video_bytes = s.max_video_bytes;
    l.picture_pixels = s.max_picture_pixels;
    l.request_pixels = s.max_request_pixels;
    l.max_frames = int(s.max_frames);
    l.decoded_bytes = s.max_decoded_bytes;
    l.media_root = s.media_root;
    l.sandbox = s.media_sandbox != "none";
    l.workers = int(s.media_workers);
    l.fetch.proxy = s.media_proxy;
    UrlRules& urls = l.fetch.urls;
    using Schemes = UrlRules::Schemes;
    urls.schemes = s.media_url == "https" ? Schemes::https
                   : s.media_url == "off" ? Schemes::off
                                          : Schemes::all;
    urls.allow = s.media_allow_host;
    urls.deny = s.media_deny_host;
    for (const auto* hosts : {&urls.allow, &urls.deny})
        for (const std::string& host : *hosts)
            if (!is_host_pattern(host))
                throw UsageError("a host is malformed", "NAME or *.SUFFIX", host);
    for (const std::string& port : s.media_port) {
        const int number = std::atoi(port.c_str());
        if (number < 1 || number > 65535)
            throw UsageError("a port is out of range", "1 to 65535", port, "--media-port");
        urls.ports.push_back(uint16_t(number));
    }
    for (const std::string& net : s.media_allow_net) {
        const auto block = AddressBlock::parse(net);
        if (!block) throw UsageError("a network is malformed", "ADDRESS/BITS", net);
        l.fetch.allowed.push_back(*block);
    }
    return l;
}

void check_media_settings(const Settings& s) {
    media_limits(s);
}

// The same where equal requests get equal answers.
static std::string fingerprint(Engine& engine, const Settings& s) {
    const DigestKey model = engine.answers_identity();
    const std::string options =
        fmt::format("{}|{}|{}|{}|{}|{}|{}|{}", s.system_prompt, s.allow_control_tokens,
                    s.detail_map, s.auto_orient, s.max_dynamic_patch, s.default_max_tokens,
                    s.clamp_max_tokens, s.deterministic);
    return "fp_" + Digest()
                       .update(model.data(), model.size())
                       .update(options.data(), options.size())
                       .hex()
                       .substr(0, 12);
}

Answers::Answers(Engine& engine, const Settings& settings, std::vector<std::string> served,
                 Router& router, Metrics& metrics, AccessLog& log)
    : state_(new State{{engine, settings, std::move(served), router, metrics, log}}) {
    State& s = *state_;
    s.defaults = request_defaults(engine, settings);
    s.system = settings.system_prompt.empty() ? engine.system_message() : settings.system_prompt;
    s.fingerprint = fingerprint(engine, settings);
    s.created = seconds_since_1970();
    s.set_loader(std::make_shared<MediaLoader>(media_limits(settings)));
    s.thread = std::make_unique<EngineThread>(
        engine, loop_options(engine, settings, s.defaults.limits.max_model_len, metrics));
}

Answers::~Answers() {
    end_all();
    state_->loaders.clear();
    state_->thread.reset();
}

void Answers::end_all() {
    std::set<std::shared_ptr<Job>> jobs;
    {
        const std::lock_guard lock(state_->jobs_mutex);
        jobs = state_->jobs;
    }
    for (const auto& job : jobs) job->shut_down();
}

void Answers::set_media(const Settings& settings) {
    state_->set_loader(std::make_shared<MediaLoader>(media_limits(settings)));
}

static void note_ignored(Call& call, const std::vector<std::string>& names) {
    if (const std::string text = ignored_header(names); !text.empty())
        call.extra.emplace_back("x-internvl-ignored", text);
}

// What every request for text must pass.
static void check_options(const Station& s, const Call& call, const AnswerOptions& options) {
    s.check_model(options.model);
    if (options.priority != 0 && !(call.key && call.key->priority))
        throw RequestError("not_permitted", "priority", "This key may not set a priority.");
}

// For debugging, on request only (--log-prompts).
static void log_body(const Station& s, const Call& call, const nlohmann::json& body) {
    constexpr size_t most = 4096;
    if (s.settings.log_prompts)
        s.log.note("info", "body",
                   {{"id", call.id},
                    {"body", body.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace)
                                 .substr(0, most)}});
}

void Answers::chat(const std::shared_ptr<Call>& call, const nlohmann::json& body) {
    log_body(*state_, *call, body);
    std::vector<std::string> ignored;
    ChatRequest request = parse_chat_request(body, state_->defaults, ignored);
    note_ignored(*call, ignored);
    check_options(*state_, *call, request.answer);
    call->record.model = request.answer.model;
    std::make_shared<Job>(*state_, call, request.answer, true)->begin(std::move(request));
}

void Answers::completions(const std::shared_ptr<Call>& call, const nlohmann::json& body) {
    log_body(*state_, *call, body);
    std::vector<std::string> ignored;
    CompletionsRequest request = parse_completions_request(body, state_->defaults, ignored);
    note_ignored(*call, ignored);
    check_options(*state_, *call, request.answer);
    call->record.model = request.answer.model;
    std::make_shared<Job>(*state_, call, request.answer, false)->begin(std::move(request));
}

// Opens the media of a request that generates nothing; cancelled when the client leaves.
static void open_for(Station& s, const std::shared_ptr<Call>& call, std::vector<MediaPart>& media,
                     std::function<void(std::vector<FetchedMedia>)> then) {
    const CancelToken cancel;
    call->on_gone([cancel] { cancel.cancel(); });
    s.open(call, media, cancel, std::move(then),
           [call](const RequestError& e) { Router::fail(*call, e); });
}

void Answers::tokenize(const std::shared_ptr<Call>& call, const nlohmann::json& body) {
    State& s = *state_;
    auto request = std::make_shared<TokenizeRequest>(parse_tokenize_request(body, s.defaults));
    if (!request->model.empty()) s.check_model(request->model);
    const bool strings = request->token_strings;
    const Tokenizer& tokenizer = s.engine.tokenizer();
    if (const auto* text = std::get_if<std::string>(&request->what)) {
        const Prompt prompt = plain_prompt(tokenizer, *text, request->add_special_tokens,
                                           s.settings.allow_control_tokens);
        return Router::reply(*call, tokenize_body(tokenizer, prompt, s.defaults.limits, strings));
    }
    ChatRequest& chat = std::get<ChatRequest>(request->what);
    open_for(s, call, chat.media, [&s, call, request, strings](std::vector<FetchedMedia> media) {
        const ChatPlan plan = estimate_chat(std::get<ChatRequest>(request->what), sizes_of(media),
                                            s.engine.tokenizer(), s.engine.chat_template(),
                                            s.system, s.defaults.limits);
        Router::reply(*call,
                      tokenize_body(s.engine.tokenizer(), plan.prompt, s.defaults.limits, strings));
    });
}

void Answers::detokenize(const std::shared_ptr<Call>& call, const nlohmann::json& body) {
    const std::vector<int> ids = parse_detokenize_request(body, state_->defaults.limits);
    Router::reply(*call, detokenize_body(state_->engine.tokenizer(), ids));
}

// The tiles of the one picture of an estimate, decoded.
static void add_tiles(Station& s, const std::shared_ptr<Call>& call, FetchedMedia picture,
                      Json estimate) {
    const CancelToken cancel;
    call->on_gone([cancel] { cancel.cancel(); });
    using Result = MediaResult<std::vector<LoadedMedia>>;
    std::vector<FetchedMedia> media;
    media.push_back(std::move(picture));
    s.loader()->decode(std::move(media), cancel, [&s, call, estimate](Result r) {
        s.router.later(call, [call, estimate, result = std::make_shared<Result>(std::move(r))] {
            if (const auto* error = std::get_if<MediaError>(result.get()))
                throw to_request_error(*error);
            Json body = estimate;
            const auto& loaded = std::get<std::vector<LoadedMedia>>(*result).at(0);
            body["tiles_png"] = tiles_png(*std::get<LoadedPicture>(loaded).tiles);
            Router::reply(*call, body);
        });
    });
}

// The answer to an estimate whose media are open.
static void reply_estimate(Station& s, const std::shared_ptr<Call>& call, EstimateRequest& request,
                           std::vector<FetchedMedia> media) {
    const RequestLimits& limits = s.defaults.limits;
    const bool words = request.chat.has_value();
    if (request.return_tiles &&
        (words || request.media.size() != 1 || media.size() != 1 || media[0].is_video()))
        refuse("invalid_value", "return_tiles",
               "return_tiles is for estimates of one picture with an address.");
    std::vector<MediaSize> sizes = sizes_of(media);
    if (!words) {  // those that were told as numbers, too
        std::vector<MediaSize> all = request.sizes;
        size_t next = 0;
        for (MediaSize& size : all)
            if (size.width == 0 && next < sizes.size()) size = sizes[next++];
        sizes = std::move(all);
    }
    const ChatPlan plan = words ? estimate_chat(*request.chat, sizes, s.engine.tokenizer(),
                                                s.engine.chat_template(), s.system, limits)
                                : plan_media(request, sizes);
    Json body = estimate_body(plan, words, limits, s.calibration());
    if (request.return_tiles) return add_tiles(s, call, std::move(media[0]), std::move(body));
    Router::reply(*call, body);
}

static void answer_estimate(Station& s, const std::shared_ptr<Call>& call, EstimateRequest parsed) {
    auto request = std::make_shared<EstimateRequest>(std::move(parsed));
    if (request->chat && !request->chat->answer.model.empty())
        s.check_model(request->chat->answer.model);
    if (request->chat)
        return open_for(s, call, request->chat->media,
                        [&s, call, request](std::vector<FetchedMedia> media) {
                            reply_estimate(s, call, *request, std::move(media));
                        });
    std::vector<MediaPart> unknown;
    for (size_t i = 0; i < request->media.size(); ++i)
        if (request->sizes[i].width == 0) unknown.push_back(std::move(request->media[i]));
    open_for(s, call, unknown, [&s, call, request](std::vector<FetchedMedia> media) {
        size_t next = 0;
        for (size_t i = 0; i < request->media.size(); ++i)
            if (request->sizes[i].width == 0) request->media[i] = media[next++].part;
        reply_estimate(s, call, *request, std::move(media));
    });
}

void Answers::estimate(const std::shared_ptr<Call>& call, const nlohmann::json& body) {
    answer_estimate(*state_, call, parse_estimate_request(body, state_->defaults));
}

void Answers::input_tokens(const std::shared_ptr<Call>& call, const nlohmann::json& body) {
    estimate(call, body);
}

void Answers::estimate_query(const std::shared_ptr<Call>& call) {
    answer_estimate(*state_, call,
                    parse_estimate_query(query_pairs(call->head.query), state_->defaults));
}

static ModelEntry model_entry(const Station& s, const std::string& id) {
    ModelEntry entry;
    entry.id = id;
    entry.created = s.created;
    entry.max_model_len = s.defaults.limits.max_model_len;
    entry.max_dynamic_patch = s.defaults.image.max_num;
    entry.defaults = s.defaults.generate;
    return entry;
}

Json Answers::models() const {
    return models_body({model_entry(*state_, state_->served[0])});
}

std::optional<Json> Answers::model(const std::string& id) const {
    const auto& served = state_->served;
    if (std::find(served.begin(), served.end(), id) == served.end()) return std::nullopt;
    return model_body(model_entry(*state_, id));
}

// A picture of one tile and an answer of eight tokens, so that the first client does not wait for
// memory and costs are known.
void Answers::warm_up() {
    State& s = *state_;
    Image grey{448, 448, std::vector<uint8_t>(448 * 448 * 3, 128)};
    Generation g;
    g.unseen = {std::make_shared<const Tiles>(cut_tiles(grey, {}))};
    ChatRequest request;
    request.messages = {{Message::Role::user, {{"", 0}, {"Warm-up", -1}}}};
    g.prompt = build_prompt(s.engine.tokenizer(), s.engine.chat_template(), s.system,
                            request.messages, std::vector<MediaTiles>{{{1}, false}}, {})
                   .ids;
    g.options.max_new_tokens = 8;
    g.options.ignore_eos = true;
    g.scope = std::string("warm-up\0", 8);  // no request shares it
    std::promise<void> done;
    g.on_end = [&done](const Answer&) { done.set_value(); };
    s.thread->submit(std::move(g));
    done.get_future().wait();
}

double Answers::stalled_s() const {
    return state_->thread->stalled_s();
}

void Answers::count() const {
    const LoopStatus l = state_->thread->status();
    Metrics& m = state_->metrics;
    const std::pair<const char*, double> values[] = {
        {"requests_running", l.running},
        {"requests_waiting", l.waiting},
        {"requests_preempted", l.preempted},
        {"generation_tokens_total", double(l.generated_tokens)},
        {"prefix_cache_queried_tokens_total", double(l.prefix_queried_tokens)},
        {"prefix_cache_hit_tokens_total", double(l.prefix_hit_tokens)},
        {"vit_cache_hits_total", double(l.vision_hits)},
        {"vit_cache_misses_total", double(l.vision_misses)},
        {"vit_cache_evictions_total", double(l.vision_evictions)},
        {"vit_cache_bytes", double(l.vision_cache_bytes)},
        {"kv_blocks_total", double(l.blocks_total)},
        {"kv_blocks_used", double(l.blocks_used)},
        {"kv_blocks_cached", double(l.blocks_cached)},
        {"preemptions_total", double(l.preemptions)},
    };
    for (const auto& [name, value] : values) m.set(name, value);
    m.set("prefill_tokens_total", double(l.prefill_text_tokens), {"text"});
    m.set("prefill_tokens_total", double(l.prefill_image_tokens), {"image"});
}

}  // namespace internvl
