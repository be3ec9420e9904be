#include "serve/station.h"

#include <fmt/format.h>

#include <algorithm>

namespace internvl {

void Station::check_model(const std::string& name) const {
    if (std::find(served.begin(), served.end(), name) != served.end()) return;
    std::string known;
    for (size_t i = 0; i < served.size() && i < 8; ++i) known += (i > 0 ? ", " : "") + served[i];
    throw RequestError(
        "model_not_found", "model",
        fmt::format("There is no model {}; served here: {}.", internvl::quoted(name), known));
}

// Without keys whoever reaches the service is trusted with what its owner opened.
bool Station::may_read_files(const Call& call) const {
    return !settings.media_root.empty() && (!call.key || call.key->file);
}

std::string Station::scope_of(const Call& call, const std::string& salt) const {
    const bool apart = settings.cache_scope == "key" ||
                       (settings.cache_scope == "auto" && call.key && call.key_count > 1);
    const std::string owner = apart && call.key ? call.key->name : "";
    return owner.empty() && salt.empty() ? "" : owner + '\0' + salt;
}

std::optional<Calibration> Station::calibration() const {
    const StepCosts costs = thread->status().costs;
    if (costs.token_ms <= 0) return std::nullopt;
    return Calibration{costs.tile_ms / 1000, costs.token_ms / 1000};
}

std::shared_ptr<MediaLoader> Station::loader() {
    const std::lock_guard lock(media_mutex);
    return loaders.back();
}

void Station::set_loader(std::shared_ptr<MediaLoader> fresh) {
    const std::lock_guard lock(media_mutex);
    std::erase_if(loaders, [](const auto& old) {
        const MediaLoader::Status s = old->status();
        return s.fetching + s.decoding + s.waiting + s.decoded_bytes == 0;
    });
    loaders.push_back(std::move(fresh));
}

RequestError to_request_error(const MediaError& e) {
    RequestError error(e.code, e.param, e.message);
    error.status = e.status;
    if (e.status == 429) error.retry_after = 2;
    return error;
}

static const char* source_of(const std::string& url) {
    return url.starts_with("data:") ? "data" : url.starts_with("file:") ? "file" : "http";
}

void Station::open(const std::shared_ptr<Call>& call, std::vector<MediaPart>& media,
                   const CancelToken& cancel, std::function<void(std::vector<FetchedMedia>)> then,
                   std::function<void(const RequestError&)> refused) {
    if (media.empty()) return then({});
    std::vector<MediaPart> parts;
    std::vector<const char*> sources;
    for (MediaPart& part : media) {
        sources.push_back(source_of(part.url));
        std::string url = std::move(part.url);  // may be megabytes
        part.url.clear();
        parts.push_back(part);
        parts.back().url = std::move(url);
    }
    using Result = MediaResult<std::vector<FetchedMedia>>;
    const auto opened = [this, call, begin = Clock::now(), sources, then, refused](Result& result) {
        call->record.fetch = std::chrono::duration<double>(Clock::now() - begin).count();
        if (const auto* error = std::get_if<MediaError>(&result)) {
            metrics.add("media_refused_total", {error->code});
            return refused(to_request_error(*error));
        }
        auto& fetched = std::get<std::vector<FetchedMedia>>(result);
        for (size_t i = 0; i < fetched.size(); ++i)
            metrics.add("media_bytes_total", {sources[i]}, double(fetched[i].bytes->size()));
        then(std::move(fetched));
    };
    loader()->fetch(
        std::move(parts), may_read_files(*call), cancel, [this, call, opened](Result r) {
            router.later(call, [opened, result = std::make_shared<Result>(std::move(r))] {
                opened(*result);
            });
        });
}

std::vector<MediaSize> sizes_of(const std::vector<FetchedMedia>& media) {
    std::vector<MediaSize> sizes;
    for (const FetchedMedia& m : media) {
        MediaSize size;
        size.width = m.width;
        size.height = m.height;
        if (m.is_video()) {
            size.frames = int(m.indices.size());
            size.fps = m.fps;
            size.frame_count = m.frame_count;
            size.indices = m.indices;
        }
        sizes.push_back(std::move(size));
    }
    return sizes;
}

}  // namespace internvl
