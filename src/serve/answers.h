#pragma once
#include <memory>

#include "engine/engine_thread.h"
#include "serve/chat_request.h"
#include "serve/routes.h"
#include "serve/settings.h"

namespace internvl {

// What holds where a request does not say otherwise, as far as the settings tell.
RequestDefaults settings_defaults(const Settings&);
// Throws UsageError for media that cannot be.
void check_media_settings(const Settings&);

// The service behind the routes: from a request's fields to its answer. Requests pass it on the
// threads of others (workers, the media loader, the engine); what is left to do after each station
// is a function that the next one calls.
class Answers {
  public:
    // `served`: the names that requests may use, the first is listed.
    Answers(Engine&, const Settings&, std::vector<std::string> served, Router&, Metrics&,
            AccessLog&);
    ~Answers();  // ends what has not ended

    void chat(const std::shared_ptr<Call>&, const nlohmann::json& body);
    void completions(const std::shared_ptr<Call>&, const nlohmann::json& body);
    void tokenize(const std::shared_ptr<Call>&, const nlohmann::json& body);
    void detokenize(const std::shared_ptr<Call>&, const nlohmann::json& body);
    void estimate(const std::shared_ptr<Call>&, const nlohmann::json& body);
    void input_tokens(const std::shared_ptr<Call>&, const nlohmann::json& body);
    void estimate_query(const std::shared_ptr<Call>&);
    nlohmann::ordered_json models() const;
    std::optional<nlohmann::ordered_json> model(const std::string& id) const;

    void warm_up();
    void set_media(const Settings&);  // for media that are named from now on
    void end_all();                   // running answers end with an error: the service shuts down
    double stalled_s() const;
    void count() const;  // gauges and counters of the engine

  private:
    struct State;
    std::unique_ptr<State> state_;
};

}  // namespace internvl
