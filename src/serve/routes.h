#pragma once
#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "serve/access_log.h"
#include "serve/auth.h"
#include "serve/listener.h"
#include "serve/metrics.h"
#include "serve/rate_limit.h"
#include "serve/request_error.h"
#include "serve/task_queue.h"

namespace internvl {

// Who may ask; read again on SIGHUP.
struct Access {
    KeyRing keys;
    ClientLimits usual;  // of clients without a key
    bool check_host = true;
    std::vector<std::string> hosts;    // besides the loopback's
    std::vector<std::string> origins;  // whose pages may call; "*" all
    std::vector<Network> proxies;
};

struct ServiceStatus {
    bool loaded = false, stalled = false, draining = false;
    double progress = 0;  // of loading, 0 to 1
};

// What stands behind the routes. `status` and what answers GET are heard on the network's thread
// and must not block; the others on a worker's, answer through the call, and may throw
// RequestError.
struct Service {
    using Answer = std::function<void(const std::shared_ptr<Call>&, const nlohmann::json& body)>;
    Answer chat, completions, tokenize, detokenize, estimate, input_tokens;
    std::function<void(const std::shared_ptr<Call>&)> estimate_query;
    std::function<ServiceStatus()> status;
    std::function<nlohmann::ordered_json()> models, version, openapi;
    std::function<std::optional<nlohmann::ordered_json>(const std::string& id)> model;
    std::function<std::optional<HttpResponse>(const std::string& path)> page;  // "/", /assets/*
    std::function<std::string()> docs;
    std::function<void()> count;  // brings gauges up to date before they are shown
};

// From requests to the service and back: who may ask, what, and how often; errors; what is counted
// and written down.
class Router {
  public:
    enum Door { door_public, door_unix, door_metrics };

    Router(Service, Metrics&, AccessLog&, int workers);
    void set_access(std::shared_ptr<const Access>);  // from any thread
    HttpHandler handler();

    int running() const { return running_; }  // requests that were taken up and are not finished

    // Runs on a worker; what it throws is the answer.
    void later(const std::shared_ptr<Call>&, std::function<void()>);
    void stop_workers() { workers_.stop(); }

    static void fail(Call&, const RequestError&);        // answers with an error
    static void note_error(Call&, const RequestError&);  // for log and metrics
    static void reply(Call&, const nlohmann::ordered_json& body, Headers headers = {});
    // Tokens of the prompt, which are known now. Throws RequestError beyond the client's limit.
    void charge_prompt(Call&, int64_t tokens);
    void charge_answer(Call&, int64_t tokens);

  private:
    struct Route;
    static const Route routes[];
    std::shared_ptr<const Access> access() const;
    void begin(Call&);
    std::optional<HttpResponse> admit(Call&);
    const Route* find_route(Call&) const;
    void check_origin(Call&, const Access&) const;
    std::optional<HttpResponse> preflight(const Call&, const Route&) const;
    void check_key(Call&, const Access&) const;
    void check_state(Call&) const;
    void enter(Call&, const Access&);
    void handle(std::shared_ptr<Call>);
    void handle_body(const std::shared_ptr<Call>&, const Route&);
    void finished(Call&);
    std::string client_of(const Call&) const;
    ClientLimits limits_of(const Call&) const;
    HttpResponse health(const std::string& path) const;

    Service service_;
    Metrics& metrics_;
    AccessLog& log_;
    RateLimiter limiter_;
    mutable std::mutex mutex_;
    std::shared_ptr<const Access> access_ = std::make_shared<const Access>();
    std::atomic<int> running_{0};
    TaskQueue workers_;
};

}  // namespace internvl
