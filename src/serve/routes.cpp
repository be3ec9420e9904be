#include "serve/routes.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/error.h"
#include "serve/chat_request.h"

namespace internvl {

using Json = nlohmann::ordered_json;

struct Router::Route {
    const char* method;
    const char* path;                            // a * at the end stands for anything
    const char* name;                            // in log and metrics
    bool key = true;                             // is asked for
    Service::Answer Service::*answer = nullptr;  // of a POST
};

const Router::Route Router::routes[] = {
    {"POST", "/v1/chat/completions", "chat", true, &Service::chat},
    {"POST", "/v1/completions", "completions", true, &Service::completions},
    {"POST", "/v1/chat/completions/input_tokens", "input_tokens", true, &Service::input_tokens},
    {"POST", "/v1/estimate", "estimate", true, &Service::estimate},
    {"GET", "/v1/estimate", "estimate"},
    {"POST", "/tokenize", "tokenize", true, &Service::tokenize},
    {"POST", "/detokenize", "detokenize", true, &Service::detokenize},
    {"GET", "/v1/models", "models"},
    {"GET", "/v1/models/*", "models"},
    {"GET", "/health", "health", false},
    {"GET", "/livez", "health", false},
    {"GET", "/readyz", "health", false},
    {"GET", "/metrics", "metrics"},
    {"GET", "/version", "version", false},
    {"GET", "/openapi.json", "openapi", false},
    {"GET", "/docs", "docs", false},
    {"GET", "/", "page", false},
    {"GET", "/assets/*", "page", false},
};

// Paths of OpenAI's that people try, and what comes nearest here.
static constexpr std::pair<const char*, const char*> not_offered[] = {
    {"/v1/responses", "/v1/chat/completions"}, {"/v1/embeddings", "/tokenize"},
    {"/v1/messages", "/v1/chat/completions"},  {"/v1/audio/", "/v1/chat/completions"},
    {"/v1/files", "/v1/chat/completions"},     {"/v1/batches", "/v1/chat/completions"},
    {"/v1/images", "/v1/chat/completions"},    {"/v1/moderations", "/v1/chat/completions"},
};

// The value of `reason` in internvl_requests_rejected_total, "" when it is no refusal.
static std::string rejection(const std::string& code) {
    static constexpr std::pair<const char*, const char*> reasons[] = {
        {"invalid_api_key", "auth"},
        {"not_permitted", "auth"},
        {"host_not_allowed", "auth"},
        {"origin_not_allowed", "auth"},
        {"rate_limit_exceeded", "rate_limit"},
        {"queue_full", "queue_full"},
        {"shutting_down", "draining"},
        {"model_loading", "loading"},
        {"payload_too_large", "too_large"},
        {"header_too_large", "too_large"},
        {"context_length_exceeded", "context_length"},
        {"too_many_images", "media_limit"},
        {"too_many_frames", "media_limit"},
        {"too_many_tiles", "media_limit"},
        {"image_too_large", "media_limit"},
        {"video_too_large", "media_limit"},
        {"invalid_image", "media_decode"},
        {"invalid_video", "media_decode"},
        {"unsupported_image_format", "media_decode"},
        {"unsupported_video_format", "media_decode"},
        {"media_timeout", "media_decode"},
        {"image_fetch_failed", "media_fetch"},
        {"video_fetch_failed", "media_fetch"},
        {"url_not_allowed", "url_not_allowed"},
        {"unsupported_parameter", "unsupported"},
        {"unsupported_content_part", "unsupported"},
        {"unsupported_endpoint", "unsupported"},
        {"deadline_exceeded", "deadline"},
        {"internal_error", ""},
        {"engine_unavailable", ""},
    };
    for (const auto& [name, reason] : reasons)
        if (code == name) return reason;
    return "bad_request";
}

void Router::note_error(Call& call, const RequestError& e) {
    call.record.code = e.code;
    call.record.finish = "error";
    call.record.rejected = rejection(e.code);
}

static HttpResponse error_response(const RequestError& e) {
    HttpResponse r;
    r.status = e.status;
    r.body = error_body(e).dump(-1, ' ', false, Json::error_handler_t::replace);
    r.headers = error_headers(e);
    r.close = e.code == "shutting_down";
    return r;
}

static RequestError loading_error() {
    RequestError e("model_loading", "", "The model is being loaded; try again in a moment.");
    e.retry_after = 2;
    return e;
}

static RequestError internal_error(const std::string& id) {
    return RequestError("internal_error", "", "Internal error, request id " + id);
}

Router::Router(Service service, Metrics& metrics, AccessLog& log, int workers)
    : service_(std::move(service)), metrics_(metrics), log_(log), workers_(workers) {}

void Router::set_access(std::shared_ptr<const Access> access) {
    const std::lock_guard lock(mutex_);
    access_ = std::move(access);
}

std::shared_ptr<const Access> Router::access() const {
    const std::lock_guard lock(mutex_);
    return access_;
}

HttpHandler Router::handler() {
    HttpHandler h;
    h.begin = [this](Call& call) { begin(call); };
    h.admit = [this](Call& call) { return admit(call); };
    h.handle = [this](std::shared_ptr<Call> call) { handle(std::move(call)); };
    h.refuse = [](Call& call, const char* code, const std::string& message) {
        const RequestError e(code, "", message);
        note_error(call, e);
        return error_response(e);
    };
    return h;
}

void Router::fail(Call& call, const RequestError& e) {
    note_error(call, e);
    call.record.status = e.status;
    call.respond(error_response(e));
}

void Router::reply(Call& call, const Json& body, Headers headers) {
    HttpResponse r;
    r.body = body.dump(-1, ' ', false, Json::error_handler_t::replace);
    r.headers = std::move(headers);
    const double ms =
        std::chrono::duration<double, std::milli>(Clock::now() - call.received).count();
    r.headers.emplace_back("openai-processing-ms", fmt::format("{:.0f}", ms));
    call.record.status = 200;
    call.respond(std::move(r));
}

void Router::begin(Call& call) {
    const std::string_view given = usable_request_id(call.head.header("x-request-id"));
    call.id = given.empty() ? "req-" + random_id(24) : std::string(given);
    call.on_done = [this](Call& c) { finished(c); };
}

const Router::Route* Router::find_route(Call& call) const {
    const std::string& path = call.head.path;
    const std::string method = call.head.method == "HEAD" ? "GET" : call.head.method;
    std::string allowed;
    for (const Route& route : routes) {
        const std::string_view pattern = route.path;
        const bool fits = pattern.ends_with('*')
                              ? path.starts_with(pattern.substr(0, pattern.size() - 1)) &&
                                    path.size() >= pattern.size()
                              : path == pattern;
        if (!fits) continue;
        call.route = int(&route - routes);
        if (method == route.method || method == "OPTIONS") return &route;
        allowed += (allowed.empty() ? "" : ", ") + std::string(route.method);
    }
    call.route = -1;
    if (!allowed.empty()) {
        call.extra.emplace_back("Allow", allowed);
        throw RequestError("method_not_allowed", "",
                           fmt::format("{} accepts {}, found {}.", internvl::quoted(path), allowed,
                                       internvl::quoted(call.head.method)));
    }
    for (const auto& [prefix, nearest] : not_offered)
        if (path.starts_with(prefix))
            throw RequestError("unsupported_endpoint", "",
                               fmt::format("{} is not offered here; the nearest path is {}.",
                                           internvl::quoted(path), nearest));
    throw RequestError(
        "unknown_endpoint", "",
        fmt::format("There is no {}; GET /docs lists what there is.", internvl::quoted(path)));
}

// A browser must not be made to ask in the name of the person before it (api.md 5).
void Router::check_origin(Call& call, const Access& access) const {
    const std::string_view origin = call.head.header("origin");
    if (origin.empty()) return;
    const auto& list = access.origins;
    const bool listed = std::find(list.begin(), list.end(), origin) != list.end() ||
                        std::find(list.begin(), list.end(), "*") != list.end();
    if (listed) {
        call.extra.emplace_back("Access-Control-Allow-Origin", origin);
        call.extra.emplace_back("Vary", "Origin");
        call.extra.emplace_back(
            "Access-Control-Expose-Headers",
            "x-request-id, retry-after, x-ratelimit-limit-requests, x-ratelimit-remaining-requests,"
            " x-ratelimit-reset-requests, x-ratelimit-limit-tokens, x-ratelimit-remaining-tokens,"
            " x-ratelimit-reset-tokens");
        return;
    }
    const size_t scheme = origin.find("://");
    const bool own = scheme != origin.npos &&
                     equal_ignoring_case(origin.substr(scheme + 3), call.head.header("host"));
    if (!own && call.head.method != "GET" && call.head.method != "HEAD")
        throw RequestError("origin_not_allowed", "",
                           "Pages of this origin may not call; the service can be started with "
                           "--cors-origin to let them.");
}

std::optional<HttpResponse> Router::preflight(const Call& call, const Route& route) const {
    HttpResponse r;
    r.status = 204;
    r.type = "";
    const bool listed = std::any_of(call.extra.begin(), call.extra.end(), [](const auto& h) {
        return h.first == "Access-Control-Allow-Origin";
    });
    r.headers.emplace_back("Allow", fmt::format("{}, OPTIONS", route.method));
    if (!listed) return r;
    r.headers.emplace_back("Access-Control-Allow-Methods", "GET, POST, OPTIONS");
    r.headers.emplace_back("Access-Control-Max-Age", "600");
    if (const auto wanted = call.head.header("access-control-request-headers"); !wanted.empty())
        r.headers.emplace_back("Access-Control-Allow-Headers", wanted);
    return r;
}

void Router::check_key(Call& call, const Access& access) const {
    if (access.keys.size() == 0) return;
    call.key = access.keys.find(call.head.header("authorization"));
    if (!call.key)
        throw RequestError("invalid_api_key", "",
                           "This service needs an API key: Authorization: Bearer KEY.");
    call.key_count = access.keys.size();
    metrics_.add("key_requests_total", {call.key->name});
}

void Router::check_state(Call& call) const {
    const ServiceStatus now = service_.status();
    if (now.draining) {
        RequestError e("shutting_down", "", "The service is shutting down; ask another replica.");
        e.retry_after = 5;
        throw e;
    }
    if (!now.loaded) throw loading_error();
    if (now.stalled && routes[call.route].answer) {
        RequestError e("engine_unavailable", "", "The model does not answer at present.");
        e.retry_after = 10;
        throw e;
    }
}

ClientLimits Router::limits_of(const Call& call) const {
    return call.key ? call.key->limits : access()->usual;
}

void Router::enter(Call& call, const Access& access) {
    call.client = call.key ? call.key->name : client_address(call.head, access.proxies);
    const RateLimiter::Verdict v = limiter_.enter(call.client, limits_of(call), Clock::now());
    for (const auto& header : v.headers) call.extra.push_back(header);
    if (!v.allowed) {
        RequestError e(
            "rate_limit_exceeded", "",
            fmt::format("The limit of {} is reached; try again in {} s.", v.what, v.retry_after));
        e.retry_after = v.retry_after;
        throw e;
    }
    call.entered = true;
}

void Router::charge_prompt(Call& call, int64_t tokens) {
    const auto wait = limiter_.take_tokens(call.client, limits_of(call), tokens, Clock::now());
    if (!wait) return;
    RequestError e(
        "rate_limit_exceeded", "",
        fmt::format("The limit of tokens a minute is reached; try again in {} s.", *wait));
    e.retry_after = *wait;
    throw e;
}

void Router::charge_answer(Call& call, int64_t tokens) {
    if (limits_of(call).tpm > 0) limiter_.charge(call.client, tokens);
}

static void check_host(const Call& call, const Access& access) {
    const std::string name = host_name(call.head.header("host"));
    const bool ours =
        name == "localhost" || name == "127.0.0.1" || name == "::1" || name == "0.0.0.0" ||
        std::find(access.hosts.begin(), access.hosts.end(), name) != access.hosts.end();
    if (!ours)
        throw RequestError("host_not_allowed", "",
                           "This host name is not ours; the service can be started with "
                           "--allowed-host to serve it.");
}

static void check_content_type(const Call& call) {
    std::string_view type = call.head.header("content-type");
    type = type.substr(0, type.find(';'));
    while (type.ends_with(' ')) type.remove_suffix(1);
    if (type.empty() || equal_ignoring_case(type, "application/json")) return;
    throw RequestError(
        "unsupported_media_type", "",
        fmt::format("Content-Type must be application/json, found {}.", internvl::quoted(type)));
}

std::optional<HttpResponse> Router::admit(Call& call) {
    const std::shared_ptr<const Access> rules = access();
    try {
        if (!split_target(call.head))
            throw RequestError("invalid_http", "", "The path of the request is malformed.");
        if (call.head.door == door_metrics && call.head.path != "/metrics")
            throw RequestError("unknown_endpoint", "", "Here is nothing but /metrics.");
        if (rules->check_host && call.head.door == door_public) check_host(call, *rules);
        check_origin(call, *rules);
        const Route* const route = find_route(call);
        if (route) call.record.endpoint = route->name;
        if (call.head.method == "OPTIONS") return preflight(call, *route);
        if (route->key && call.head.door != door_metrics) check_key(call, *rules);
        if (!route->answer) return std::nullopt;
        check_state(call);
        enter(call, *rules);
        check_content_type(call);
    } catch (const RequestError& e) {
        note_error(call, e);
        return error_response(e);
    }
    return std::nullopt;
}

HttpResponse Router::health(const std::string& path) const {
    const ServiceStatus now = service_.status();
    const bool live = !now.stalled, ready = now.loaded && !now.draining;
    HttpResponse r;
    const bool good = path == "/livez" ? live : path == "/readyz" ? ready : live && ready;
    r.status = good ? 200 : 503;
    const char* status = now.draining  ? "draining"
                         : now.stalled ? "stalled"
                         : now.loaded  ? "ok"
                                       : "loading";
    r.body = Json{{"status", status}, {"progress", now.loaded ? 1.0 : now.progress}}.dump();
    return r;
}

void Router::handle(std::shared_ptr<Call> call) {
    const Route& route = routes[call->route];
    if (route.answer) {
        call->taken_up = true;
        ++running_;
        later(call, [this, call, &route] { handle_body(call, route); });
        return;
    }
    const std::string& path = call->head.path;
    const std::string_view name = route.name;
    try {
        HttpResponse r;
        if (name == "health") {
            r = health(path);
        } else if (name == "metrics") {
            service_.count();
            r.type = "text/plain; version=0.0.4; charset=utf-8";
            r.body = metrics_.text();
        } else if (name == "page") {
            auto page = service_.page(path);
            if (!page) throw RequestError("unknown_endpoint", "", "There is no such file.");
            r = std::move(*page);
        } else if (name == "docs") {
            r.type = "text/html; charset=utf-8";
            r.headers = {{"Content-Security-Policy", "default-src 'none'"}};
            r.body = service_.docs();
        } else if (name == "version") {
            r.body = service_.version().dump();
        } else if (name == "openapi") {
            r.body = service_.openapi().dump();
        } else if (!service_.status().loaded) {
            throw loading_error();
        } else if (name == "estimate") {
            return service_.estimate_query(call);
        } else if (path == "/v1/models") {
            r.body = service_.models().dump();
        } else {
            const std::string id = path.substr(std::string_view("/v1/models/").size());
            const auto entry = service_.model(id);
            if (!entry)
                throw RequestError("model_not_found", "model",
                                   fmt::format("There is no model {}.", internvl::quoted(id)));
            r.body = entry->dump();
        }
        call->record.status = r.status;
        call->respond(std::move(r));
    } catch (const RequestError& e) {
        fail(*call, e);
    } catch (const std::exception& e) {
        log_.note("error", e.what(), {{"id", call->id}});
        fail(*call, internal_error(call->id));
    }
}

void Router::later(const std::shared_ptr<Call>& call, std::function<void()> work) {
    workers_.add([this, call, work = std::move(work)] {
        try {
            work();
        } catch (const RequestError& e) {
            fail(*call, e);
        } catch (const std::exception& e) {
            log_.note("error", e.what(), {{"id", call->id}});
            fail(*call, internal_error(call->id));
        }
    });
}

// On a worker's thread.
void Router::handle_body(const std::shared_ptr<Call>& call, const Route& route) {
    if (call->gone()) return call->finish();
    const nlohmann::json body = parse_request_json(call->body);
    call->body = {};
    call->body_share = nullptr;
    (service_.*route.answer)(call, body);
}

void Router::finished(Call& call) {
    if (call.entered) limiter_.leave(call.client);
    CallRecord& r = call.record;
    if (call.taken_up) --running_;
    const double seconds = std::chrono::duration<double>(Clock::now() - call.received).count();
    if (call.gone() && r.finish != "error") r.status = 499, r.finish = "cancelled";
    metrics_.add("requests_total", {r.endpoint, std::to_string(r.status), r.finish});
    if (!r.rejected.empty()) metrics_.add("requests_rejected_total", {r.rejected});
    if (r.prompt_tokens > 0) metrics_.observe("request_duration_seconds", seconds, {r.media});
    log_.request(call, client_address(call.head, access()->proxies), seconds);
}

}  // namespace internvl
