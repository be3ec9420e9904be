#include "serve/server.h"

#include <fmt/format.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <thread>

#include "base/cpu.h"
#include "base/log.h"
#include "io/hub.h"
#include "serve/answers.h"
#include "serve/docs.h"
#include "serve/notify.h"
#include "serve/openapi.h"
#include "serve/page.h"

namespace internvl {

namespace {

using Json = nlohmann::ordered_json;
using std::chrono::milliseconds;

milliseconds in_ms(double seconds) {
    return milliseconds(int64_t(seconds * 1000));
}

HttpLimits http_limits(const Settings& s) {
    HttpLimits l;
    l.body_bytes = size_t(s.max_body_bytes);
    l.all_bodies = size_t(s.max_bodies_bytes);
    l.connections = int(s.max_connections);
    l.write_timeout = in_ms(s.write_timeout);
    l.keep_alive = in_ms(s.sse_keepalive);
    return l;
}

std::shared_ptr<const Access> make_access(const Settings& s) {
    auto access = std::make_shared<Access>();
    access->usual = {s.rpm, s.tpm, s.concurrency};
    if (!s.api_key_file.empty()) access->keys.add_file(s.api_key_file, access->usual);
    if (const char* keys = std::getenv("INTERNVL_API_KEYS"))
        access->keys.add_list(keys, access->usual);
    access->check_host = is_loopback(s.host) && access->keys.size() == 0;
    for (const std::string& host : s.allowed_host) access->hosts.push_back(host_name(host));
    access->origins = s.cors_origin;
    for (const std::string& origin : s.cors_origin)
        if (origin == "*" && access->keys.size() == 0)
            throw UsageError("--cors-origin * needs keys", "--api-key-file, or exact origins", "*");
    for (const std::string& proxy : s.trusted_proxy)
        access->proxies.push_back(Network::parse(proxy));
    if (!is_loopback(s.host) && access->keys.size() == 0 && !s.allow_unauthenticated)
        throw UsageError("other machines could use this service without a key",
                         "--api-key-file FILE, or --allow-unauthenticated to let everybody in", "",
                         "--host " + s.host);
    return access;
}

std::vector<std::string> served_names(const Settings& s) {
    if (!s.served_model_name.empty()) return s.served_model_name;
    if (is_repository(s.model) && !std::filesystem::is_directory(s.model)) return {s.model};
    std::filesystem::path path(s.model);
    if (!path.has_filename()) path = path.parent_path();
    return {path.filename().string()};
}

LoadOptions load_options(const Settings& s) {
    LoadOptions o;
    o.threads = int(s.threads);
    o.dtype = s.dtype;
    o.quant = s.quant;
    o.kv_cache = s.kv_cache;
    o.weight_cache_folder = s.weight_cache;
    o.vision_cache_mb = int(s.vit_cache_bytes >> 20);
    if (!s.prefix_cache) o.prefix_cache_mb = 0;
    return o;
}

// "host:port", the host in brackets where it has colons.
std::pair<std::string, int> split_address(const std::string& address) {
    const size_t colon = address.rfind(':');
    int port = -1;
    if (colon != address.npos) port = std::atoi(address.c_str() + colon + 1);
    if (port < 0 || port > 65535)
        throw UsageError("an address is malformed", "ADDRESS:PORT", address, "--metrics-listen");
    return {host_name(address), port};
}

std::optional<HttpResponse> page(const std::string& path) {
    const PageFile* file = find_page_file(path);
    if (!file) return std::nullopt;
    HttpResponse r;
    r.type = file->content_type;
    r.body = file->bytes;
    r.headers = {{"Content-Security-Policy", std::string(page_policy)},
                 {"Cache-Control", "no-cache"}};
    return r;
}

class Server {
  public:
    explicit Server(const ServeCall& how)
        : how_(how),
          settings_(load_settings(how.flags, how.config_file)),
          access_(make_access(settings_)),
          names_(served_names(settings_)),
          log_(settings_.log_file, settings_.log_format, settings_.log_level),
          metrics_(names_[0]),
          router_(make_service(), metrics_, log_, 2),
          http_(http_limits(settings_), router_.handler()) {
        check_media_settings(settings_);
        router_.set_access(access_);
    }

    int run() {
        const ModelFolder folder = resolve_model(settings_.model);
        bind();
        http_.on_signal([this](int signal) { on_signal(signal); });
        watch();
        loader_ = std::thread([this, folder] { load(folder); });
        http_.run();
        if (!loaded_ && !failed_) std::_Exit(status_);  // nothing ends a load in the middle
        loader_.join();
        router_.stop_workers();
        answers_.reset();
        log_.note("info", "ended");
        return status_;
    }

  private:
    Service make_service();
    void bind();
    void load(const ModelFolder&);
    void on_signal(int);
    void drain();
    void await_drained();
    void reload();
    void watch();
    ServiceStatus status() const;

    ServeCall how_;
    Settings settings_;
    std::shared_ptr<const Access> access_;
    std::vector<std::string> names_;
    AccessLog log_;
    Metrics metrics_;
    Router router_;
    HttpServer http_;
    std::unique_ptr<Engine> engine_;
    std::unique_ptr<Answers> answers_;  // complete once loaded_ is true
    std::thread loader_;
    std::atomic<bool> loaded_{false}, failed_{false};
    std::atomic<double> progress_{0};  // of loading
    bool draining_ = false, ended_answers_ = false;
    Clock::time_point drain_until_;
    int status_ = 0;
};

ServiceStatus Server::status() const {
    ServiceStatus s;
    s.loaded = loaded_;
    s.draining = draining_;
    s.stalled = loaded_ && answers_->stalled_s() > settings_.stall_timeout;
    s.progress = progress_;
    return s;
}

Service Server::make_service() {
    Service s;
    const auto through =
        [this](void (Answers::*what)(const std::shared_ptr<Call>&, const nlohmann::json&)) {
            return [this, what](const std::shared_ptr<Call>& call, const nlohmann::json& body) {
                (answers_.get()->*what)(call, body);
            };
        };
    s.chat = through(&Answers::chat);
    s.completions = through(&Answers::completions);
    s.tokenize = through(&Answers::tokenize);
    s.detokenize = through(&Answers::detokenize);
    s.estimate = through(&Answers::estimate);
    s.input_tokens = through(&Answers::input_tokens);
    s.estimate_query = [this](const std::shared_ptr<Call>& call) {
        answers_->estimate_query(call);
    };
    s.status = [this] { return status(); };
    s.models = [this] { return answers_->models(); };
    s.model = [this](const std::string& id) { return answers_->model(id); };
    s.version = [this] {
        return Json{{"version", how_.version}, {"commit", how_.commit}, {"model", names_[0]}};
    };
    s.openapi = [this] { return openapi_document(settings_defaults(settings_), how_.version); };
    s.docs = [this] { return docs_page(settings_); };
    s.page = page;
    s.count = [this] {
        const ServiceStatus now = status();
        metrics_.set("engine_stalled", now.stalled);
        metrics_.set("draining", now.draining);
        metrics_.set("model_loaded", now.loaded);
        if (now.loaded) answers_->count();
    };
    return s;
}

void Server::bind() {
    const int port = http_.listen(settings_.host, int(settings_.port), Router::door_public);
    for (const std::string& place : settings_.listen) {
        if (!place.starts_with("unix:"))
            throw UsageError("--listen is malformed", "unix:PATH", place);
        http_.listen_unix(place.substr(5), Router::door_unix);
    }
    if (!settings_.metrics_listen.empty()) {
        const auto [host, metrics_port] = split_address(settings_.metrics_listen);
        http_.listen(host, metrics_port, Router::door_metrics);
    }
    const bool v6 = settings_.host.find(':') != std::string::npos;
    const std::string host = v6 ? "[" + settings_.host + "]" : settings_.host;
    log_.note("info", "listening", {{"url", fmt::format("http://{}:{}/v1", host, port)}});
    if (settings_.log_prompts)
        log_.note("warning", "what requests say is written to the log: --log-prompts");
    if (settings_.allow_control_tokens)
        log_.note("warning", "control strings in messages act: --allow-control-tokens");
}

void Server::load(const ModelFolder& folder) {
    try {
        LoadOptions options = load_options(settings_);
        options.on_load = [this](double share) { progress_ = share; };
        engine_ = std::make_unique<Engine>(folder, options);
        answers_ = std::make_unique<Answers>(*engine_, settings_, names_, router_, metrics_, log_);
        if (settings_.warmup) answers_->warm_up();
        metrics_.set("build_info", 1, {how_.version, how_.commit, "cpu", engine_->types().name()});
        loaded_ = true;
        log_.note("info", "ready", {{"model", names_[0]}, {"load_ms", int(engine_->load_ms())}});
        notify_systemd("READY=1\nSTATUS=Serving");
    } catch (const std::exception& e) {
        http_.post([this, text = std::string(e.what())] {
            std::fprintf(stderr, "internvl: error: %s\n", text.c_str());
            failed_ = true;
            status_ = 3;
            http_.stop();
        });
    }
}

void Server::on_signal(int signal) {
    if (signal == SIGHUP) return reload();
    if (draining_) ::_exit(130);
    drain();
}

void Server::drain() {
    draining_ = true;
    notify_systemd("STOPPING=1");
    log_.note("info", "draining", {{"running", router_.running()}});
    drain_until_ = Clock::now() + in_ms(settings_.drain_timeout);
    await_drained();
}

void Server::await_drained() {
    if (router_.running() == 0) return http_.after(milliseconds(100), [this] { http_.stop(); });
    const auto now = Clock::now();
    if (now > drain_until_ && loaded_ && !std::exchange(ended_answers_, true)) answers_->end_all();
    if (now > drain_until_ + std::chrono::seconds(5)) return http_.stop();
    http_.after(milliseconds(20), [this] { await_drained(); });
}

// Keys, limits, hosts, networks and the log's level; a faulty file changes nothing.
void Server::reload() {
    try {
        Settings fresh = load_settings(how_.flags, how_.config_file);
        fresh.host = settings_.host;
        auto access = make_access(fresh);
        check_media_settings(fresh);
        log_.reopen(fresh.log_level);
        router_.set_access(std::move(access));
        if (loaded_) answers_->set_media(fresh);
        metrics_.add("config_reloads_total", {"ok"});
        log_.note("info", "configuration read again");
    } catch (const std::exception& e) {
        metrics_.add("config_reloads_total", {"failed"});
        log_.note("error", e.what());
    }
}

// systemd hears from us as long as the engine is alive.
void Server::watch() {
    const auto interval = watchdog_interval();
    if (!interval) return;
    if (!status().stalled) notify_systemd("WATCHDOG=1");
    http_.after(std::chrono::duration_cast<milliseconds>(*interval / 3), [this] { watch(); });
}

}  // namespace

int serve(const ServeCall& how) {
    std::unique_ptr<Server> server;
    try {
        server = std::make_unique<Server>(how);
        return server->run();
    } catch (const ListenError& e) {
        std::fprintf(stderr, "internvl: error: %s\n", e.what());
        return 4;
    } catch (const UsageError&) {
        throw;
    } catch (const Error& e) {
        std::fprintf(stderr, "internvl: error: %s\n", e.what());
        return 3;
    } catch (const std::exception& e) {
        std::fprintf(stderr, "internvl: error: %s\n", e.what());
        return 70;
    }
}

int check_service(const ServeCall& how) {
    const Settings settings = load_settings(how.flags, how.config_file);
    make_access(settings);
    check_media_settings(settings);
    try {
        const Engine engine(resolve_model(settings.model), load_options(settings));
        std::printf("%s: fine\n", served_names(settings)[0].c_str());
        return 0;
    } catch (const UsageError&) {
        throw;
    } catch (const Error& e) {
        std::fprintf(stderr, "internvl: error: %s\n", e.what());
        return 3;
    }
}

}  // namespace internvl
