#pragma once
#include <functional>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "engine/engine_thread.h"
#include "serve/chat_request.h"
#include "serve/estimate.h"
#include "serve/media_loader.h"
#include "serve/responses.h"
#include "serve/routes.h"
#include "serve/settings.h"

namespace internvl {

class Job;

// What requests pass on their way: everything is made once, when the model is loaded.
struct Station {
    Engine& engine;
    const Settings settings;
    const std::vector<std::string> served;  // names, the first is listed
    Router& router;
    Metrics& metrics;
    AccessLog& log;

    RequestDefaults defaults = {};
    std::string system = {}, fingerprint = {};
    int64_t created = 0;  // seconds since 1970

    std::mutex jobs_mutex = {};
    std::set<std::shared_ptr<Job>> jobs = {};  // under way
    std::unique_ptr<EngineThread> thread = {};
    // The last is in use; earlier ones finish what they have begun.
    std::mutex media_mutex = {};
    std::vector<std::shared_ptr<MediaLoader>> loaders = {};
    std::shared_ptr<MediaLoader> loader();
    void set_loader(std::shared_ptr<MediaLoader>);

    // Throws RequestError where the request may not be what it is.
    void check_model(const std::string& name) const;
    bool may_read_files(const Call&) const;
    std::string scope_of(const Call&, const std::string& salt) const;
    std::optional<Calibration> calibration() const;

    // Opens media by their headers, then goes on with them on a worker; `refused` hears on one why
    // they are not taken. Takes the addresses out of `media`.
    void open(const std::shared_ptr<Call>&, std::vector<MediaPart>& media, const CancelToken&,
              std::function<void(std::vector<FetchedMedia>)> then,
              std::function<void(const RequestError&)> refused);
};

RequestError to_request_error(const MediaError&);
std::vector<MediaSize> sizes_of(const std::vector<FetchedMedia>&);

}  // namespace internvl
