#include "serve/job.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "engine/vision_cache.h"

namespace internvl {

static double seconds_since(Clock::time_point begin) {
    return std::chrono::duration<double>(Clock::now() - begin).count();
}

Job::Job(Station& station, std::shared_ptr<Call> call, AnswerOptions options, bool chat)
    : station_(station), call_(std::move(call)), options_(std::move(options)) {
    head_ = {chat, (chat ? "chatcmpl-" : "cmpl-") + random_id(24),
             std::chrono::duration_cast<std::chrono::seconds>(
                 std::chrono::system_clock::now().time_since_epoch())
                 .count(),
             options_.model, station_.fingerprint};
    shape_.logprobs = options_.top_logprobs >= 0;
    shape_.token_ids = options_.return_token_ids;
    shape_.usage = options_.include_usage;
    shape_.top = std::max(options_.top_logprobs, 0);
    const auto longest =
        std::chrono::milliseconds(int64_t(station_.settings.request_timeout * 1e3));
    deadline_ =
        call_->received +
        std::min(longest, std::chrono::milliseconds(options_.deadline_ms.value_or(INT64_MAX / 2)));
}

void Job::enter() {
    {
        const std::lock_guard lock(station_.jobs_mutex);
        station_.jobs.insert(shared_from_this());
    }
    call_->on_gone([job = weak_from_this()] {
        if (const auto alive = job.lock()) alive->leave();
    });
}

void Job::begin(ChatRequest request) {
    const auto self = shared_from_this();
    enter();
    for (const MediaPart& part : request.media)
        if (call_->record.media != "video")
            call_->record.media = part.kind == MediaPart::Kind::video ? "video" : "image";
    auto kept = std::make_shared<ChatRequest>(std::move(request));
    station_.open(
        call_, kept->media, cancelled_,
        [self, kept](std::vector<FetchedMedia> media) {
            self->guarded([&] { self->plan(std::move(*kept), std::move(media)); });
        },
        [self](const RequestError& e) { self->fail(e); });
}

void Job::begin(CompletionsRequest request) {
    enter();
    guarded([&] {
        std::vector<Prompt> prompts;
        int64_t tokens = 0;
        const RequestLimits& limits = station_.defaults.limits;
        for (const CompletionsPrompt& text : request.prompts) {
            prompts.push_back(completions_prompt(station_.engine.tokenizer(), text, limits));
            tokens += int64_t(prompts.back().ids.size());
            AnswerOptions each = options_;
            fit_answer(each, prompts.back(), limits);
            limits_.push_back(each.generate.max_new_tokens);
        }
        plan_.text_tokens = tokens;
        take_places(tokens, int(prompts.size()));
        submit(prompts, {});
    });
}

// What it throws is the answer.
void Job::guarded(const std::function<void()>& work) {
    try {
        work();
    } catch (const RequestError& e) {
        fail(e);
    } catch (const std::exception& e) {
        station_.log.note("error", e.what(), {{"id", call_->id}});
        fail({"internal_error", "", "Internal error, request id " + call_->id});
    }
}

void Job::plan(ChatRequest request, std::vector<FetchedMedia> media) {
    request.answer = options_;
    plan_ = plan_chat(request, sizes_of(media), station_.engine.tokenizer(),
                      station_.engine.chat_template(), station_.system, station_.defaults.limits);
    options_ = request.answer;  // with the limit of the answer
    limits_ = {options_.generate.max_new_tokens};
    take_places(plan_.text_tokens + plan_.image_tokens, 1);
    if (media.empty()) return submit({plan_.prompt}, {});
    for (size_t i = 0; i < media.size(); ++i) {  // image_fit may have changed them
        media[i].part.image = request.media[i].image;
        media[i].part.video = request.media[i].video;
    }
    decode_begin_ = Clock::now();
    station_.loader()->decode(
        std::move(media), cancelled_,
        [self = shared_from_this()](MediaResult<std::vector<LoadedMedia>> result) {
            const auto loaded = std::make_shared<decltype(result)>(std::move(result));
            self->station_.router.later(self->call_, [self, loaded] {
                self->guarded([&] { self->decoded(std::move(*loaded)); });
            });
        });
}

void Job::take_places(int64_t prompt_tokens, int prompts) {
    call_->record.prompt_tokens = prompt_tokens;
    call_->record.image_tokens = plan_.image_tokens;
    station_.router.charge_prompt(*call_, prompt_tokens);
    try {
        for (int i = 0; i < prompts * options_.n; ++i)
            places_.push_back(station_.thread->reserve());
    } catch (const QueueFull& full) {
        RequestError e("queue_full", "", "Too many requests wait; try again later.");
        e.retry_after = std::clamp(int(std::ceil(full.wait_s)), 1, 60);
        throw e;
    }
}

void Job::decoded(MediaResult<std::vector<LoadedMedia>> result) {
    const double passed = seconds_since(decode_begin_);
    call_->record.decode = passed;
    if (const auto* error = std::get_if<MediaError>(&result)) {
        station_.metrics.add("media_refused_total", {error->code});
        throw to_request_error(*error);
    }
    std::vector<std::shared_ptr<const Tiles>> tiles;
    double resize_ms = 0;
    for (LoadedMedia& m : std::get<std::vector<LoadedMedia>>(result)) {
        std::visit([&](const auto& one) { resize_ms += one.resize_ms; }, m);
        if (auto* picture = std::get_if<LoadedPicture>(&m))
            tiles.push_back(std::move(picture->tiles));
        else
            for (auto& frame : std::get<LoadedVideo>(m).frames) tiles.push_back(std::move(frame));
    }
    // Several are decoded at a time: their shares of the time that passed.
    call_->record.resize = std::min(resize_ms / 1000, passed);
    call_->record.decode = passed - call_->record.resize;
    submit({plan_.prompt}, std::move(tiles));
}

Generation Job::generation(const Prompt& prompt, int index) {
    Generation g;
    g.prompt = prompt.ids;
    g.options = options_.generate;
    g.options.choice = index % options_.n;
    g.options.max_new_tokens = limits_[size_t(index / options_.n)];
    g.scope = station_.scope_of(*call_, options_.cache_salt);
    g.queue = call_->client;
    g.priority = options_.priority;
    g.deadline = deadline_;
    const auto self = shared_from_this();
    g.on_token = [self, index](int id) { return self->token(index, id); };
    if (shape_.logprobs)
        g.on_logits = [self, index](std::span<const float> logits) {
            self->choices_[size_t(index)].writer->logits(logits);
        };
    g.on_end = [self, index](Answer a) { self->ended(index, std::move(a)); };
    return g;
}

void Job::submit(const std::vector<Prompt>& prompts,
                 std::vector<std::shared_ptr<const Tiles>> tiles) {
    if (Clock::now() > deadline_) throw deadline_error();
    std::vector<DigestKey> keys;
    for (const auto& picture : tiles)
        for (int t = 0; t < picture->count; ++t) keys.push_back(tile_key(*picture, t));
    call_->record.tiles = int64_t(keys.size());
    shape_.choices = int(prompts.size()) * options_.n;
    const Engine& engine = station_.engine;
    // The engine may have tokens before all is submitted; they wait here for the head of the
    // answer.
    const std::lock_guard lock(mutex_);
    if (over_) return;
    choices_.resize(size_t(shape_.choices));
    unfinished_ = shape_.choices;
    if (options_.stream) events_.emplace(head_, shape_);
    for (Strand& c : choices_)
        c.writer = std::make_unique<AnswerWriter>(engine.tokenizer(), engine.chat_template(),
                                                  options_.generate, options_.top_logprobs);
    for (int i = 0; i < shape_.choices; ++i) {
        Generation g = generation(prompts[size_t(i / options_.n)], i);
        g.unseen = tiles;
        g.unseen_keys = keys;
        if (i % options_.n > 0) g.sibling_of = choices_[size_t(i - i % options_.n)].number;
        choices_[size_t(i)].number =
            station_.thread->submit(std::move(g), std::move(places_[size_t(i)]));
    }
    places_.clear();
    submitted_ = true;
    if (!options_.stream) return;
    call_->record.status = 200;
    call_->start(
        {.type = "text/event-stream; charset=utf-8", .headers = {{"X-Accel-Buffering", "no"}}});
    call_->write(events_->begin());
}

// On the engine's thread, as all that follows.
bool Job::token(int index, int id) {
    const std::lock_guard lock(mutex_);
    if (over_ || !submitted_) return false;
    Strand& c = choices_[size_t(index)];
    const auto now = Clock::now();
    if (c.last_token)
        station_.metrics.observe("inter_token_latency_seconds",
                                 std::chrono::duration<double>(now - *c.last_token).count());
    c.last_token = now;
    const bool go_on = c.writer->push(id);
    say(c, index);
    if (!call_->record.first_token) call_->record.first_token = seconds_since(call_->received);
    station_.router.charge_answer(*call_, 1);
    return go_on;
}

// Shows what has become certain.
void Job::say(Strand& c, int index) {
    Delta delta = c.writer->take();
    if (options_.stream) {
        if (!delta.empty()) call_->write(events_->delta(index, delta));
        return;
    }
    c.whole.text += delta.text;
    c.whole.ids.insert(c.whole.ids.end(), delta.ids.begin(), delta.ids.end());
    std::move(delta.logprobs.begin(), delta.logprobs.end(), std::back_inserter(c.whole.logprobs));
}

void Job::ended(int index, Answer answer) {
    std::unique_lock lock(mutex_);
    Strand& c = choices_[size_t(index)];
    c.answer = std::move(answer);
    --unfinished_;
    if (over_ || !submitted_) return;
    const Answer::End end = c.answer.end;
    if (end == Answer::End::stop || c.writer->stopped())
        c.reason = "stop";
    else if (end == Answer::End::length)
        c.reason = "length";
    if (c.reason.empty()) {
        lock.unlock();
        return fail_with_answer(c.answer);
    }
    c.writer->finish();
    say(c, index);
    const bool last = unfinished_ == 0;
    if (options_.stream) {
        const std::optional<AnswerInfo> told =
            last && options_.return_info ? std::optional(info()) : std::nullopt;
        call_->write(events_->finish(index, c.reason, told ? &*told : nullptr));
    }
    if (!last) return;
    over_ = true;
    record_end();
    if (options_.stream) {
        call_->write(events_->end(usage()));
        call_->finish();
        lock.unlock();
        return forget();
    }
    lock.unlock();
    station_.router.later(call_, [self = shared_from_this()] { self->answer_whole(); });
}

void Job::answer_whole() {
    forget();
    std::vector<Choice> finished;
    for (Strand& c : choices_) finished.push_back({std::move(c.whole), c.reason});
    const std::optional<AnswerInfo> told =
        options_.return_info ? std::optional(info()) : std::nullopt;
    Router::reply(*call_, answer_body(head_, shape_, finished, usage(), told ? &*told : nullptr));
}

Usage Job::usage() const {
    Usage u;
    u.prompt_tokens = plan_.text_tokens + plan_.image_tokens;
    u.image_tokens = plan_.image_tokens;
    for (size_t i = 0; i < choices_.size(); ++i) {
        u.completion_tokens += choices_[i].writer->count();
        if (i % size_t(options_.n) == 0) u.cached_tokens += choices_[i].answer.cached_tokens;
    }
    return u;
}

AnswerInfo Job::info() const {
    const Answer& first = choices_[0].answer;
    AnswerInfo info;
    info.seed = int64_t(options_.generate.seed);
    info.images = plan_.images;
    if (info.images.size() == 1) info.images[0].tiles_cached = first.tiles_cached;
    info.videos = plan_.videos;
    for (const Strand& c : choices_) {
        info.answers.push_back(c.writer->tagged_text());
        info.preemptions += c.answer.preemptions;
    }
    info.queue = first.queue_ms / 1000;
    info.fetch = call_->record.fetch;
    info.decode = call_->record.decode;
    info.resize = call_->record.resize;
    info.vit = first.vision_ms / 1000;
    info.prefill = first.prefill_ms / 1000;
    info.decode_tokens = first.decode_ms / 1000;
    info.ttft = call_->record.first_token.value_or(0);
    return info;
}

// What log and metrics say of an answer.
void Job::record_end() {
    CallRecord& r = call_->record;
    const Answer& first = choices_[0].answer;
    const Usage u = usage();
    r.finish = choices_[0].reason;
    r.completion_tokens = u.completion_tokens;
    r.cached_tokens = u.cached_tokens;
    r.queue = first.queue_ms / 1000;
    r.vision = first.vision_ms / 1000;
    r.prefill = first.prefill_ms / 1000;
    r.decode_tokens = first.decode_ms / 1000;
    Metrics& m = station_.metrics;
    if (r.first_token) m.observe("time_to_first_token_seconds", *r.first_token, {r.media});
    m.observe("queue_time_seconds", r.queue, {r.media});
    m.observe("request_prompt_tokens", double(u.prompt_tokens));
    m.observe("request_generation_tokens", double(u.completion_tokens));
    m.add("prompt_tokens_total", {"text"}, double(plan_.text_tokens));
    m.add("prompt_tokens_total", {"image"}, double(plan_.image_tokens));
    const auto stage = [&](const char* name, double seconds) {
        m.observe("stage_duration_seconds", seconds, {name});
    };
    if (r.media != "none") {
        stage("fetch", r.fetch);
        stage("decode", r.decode);
        stage("resize", r.resize);
        stage("vit", r.vision);
        const char* source = r.media == "video" ? "video" : "image";
        m.observe("request_image_tiles", double(r.tiles), {source});
        m.add("image_tiles_total", {source}, double(r.tiles));
    }
    stage("prefill", r.prefill);
    stage("decode_tokens", r.decode_tokens);
}

RequestError Job::deadline_error() const {
    return {"deadline_exceeded", "",
            fmt::format("The answer took longer than the {:.1f} s that it may take.",
                        std::chrono::duration<double>(deadline_ - call_->received).count())};
}

static RequestError shutting_down() {
    RequestError e("shutting_down", "", "The service is shutting down.");
    e.retry_after = 5;
    return e;
}

void Job::fail_with_answer(const Answer& answer) {
    if (answer.end == Answer::End::deadline) return fail(deadline_error());
    if (answer.end == Answer::End::cancelled) return fail(shutting_down());
    guarded([&] {
        if (answer.error) std::rethrow_exception(answer.error);
        throw Error("an answer failed without a reason");
    });
}

// The only other way to end.
void Job::fail(const RequestError& e) {
    {
        const std::lock_guard lock(mutex_);
        if (std::exchange(over_, true)) return;
        cancel();
        if (submitted_ && options_.stream) {
            Router::note_error(*call_, e);
            call_->write(error_event(e));
            call_->finish();
        } else {
            Router::fail(*call_, e);
        }
    }
    forget();
}

void Job::cancel() {
    cancelled_.cancel();
    places_.clear();
    for (const Strand& c : choices_)
        if (c.number > 0) station_.thread->cancel(c.number);
}

void Job::shut_down() {
    fail(shutting_down());
}

// The client is gone; on the network's thread.
void Job::leave() {
    {
        const std::lock_guard lock(mutex_);
        if (std::exchange(over_, true)) return;
        cancel();
        call_->record.finish = "cancelled";
        call_->finish();
    }
    forget();
}

void Job::forget() {
    const std::lock_guard lock(station_.jobs_mutex);
    station_.jobs.erase(shared_from_this());
}

}  // namespace internvl
