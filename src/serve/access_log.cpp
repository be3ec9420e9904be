#include "serve/access_log.h"

#include <fmt/format.h>
#include <spdlog/sinks/basic_file_sink.h>
#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <cmath>
#include <ctime>
#include <mutex>

#include "base/error.h"
#include "serve/auth.h"

namespace internvl {

using Json = nlohmann::ordered_json;

struct AccessLog::Writer {
    std::string file, format;
    std::mutex mutex;
    std::shared_ptr<spdlog::logger> logger;

    void open(const std::string& level) {
        std::shared_ptr<spdlog::sinks::sink> sink;
        try {
            if (file.empty())
                sink = std::make_shared<spdlog::sinks::stderr_sink_mt>();
            else
                sink = std::make_shared<spdlog::sinks::basic_file_sink_mt>(file);
        } catch (const spdlog::spdlog_ex&) {
            throw UsageError("cannot open the log", "a file that can be written", "", file);
        }
        auto fresh = std::make_shared<spdlog::logger>("internvl", std::move(sink));
        fresh->set_pattern("%v");
        fresh->set_level(spdlog::level::from_str(level));
        fresh->flush_on(spdlog::level::trace);
        const std::lock_guard lock(mutex);
        logger = std::move(fresh);
    }

    void write(const char* level, Json line) {
        std::shared_ptr<spdlog::logger> to;
        {
            const std::lock_guard lock(mutex);
            to = logger;
        }
        const auto at = spdlog::level::from_str(level);
        if (!to->should_log(at)) return;
        const auto dump = [](const Json& value) {
            return value.dump(-1, ' ', false, Json::error_handler_t::replace);
        };
        if (format == "json") return to->log(at, dump(line));
        std::string text;
        for (const auto& [name, value] : line.items()) {
            if (!text.empty()) text += ' ';
            if (name == "time" || name == "level")
                text += value.get<std::string>();
            else
                text += name, text += '=', text += dump(value);
        }
        to->log(at, text);
    }
};

static std::string utc_now() {
    const auto now = std::chrono::system_clock::now();
    const std::time_t seconds = std::chrono::system_clock::to_time_t(now);
    const auto ms = std::chrono::duration_cast<std::chrono::milliseconds>(now.time_since_epoch());
    std::tm parts{};
    gmtime_r(&seconds, &parts);
    char text[32];
    std::strftime(text, sizeof text, "%Y-%m-%dT%H:%M:%S", &parts);
    return fmt::format("{}.{:03}Z", text, ms.count() % 1000);
}

static double rounded(double seconds) {
    return std::round(seconds * 1e6) / 1e6;
}

AccessLog::AccessLog(const std::string& file, const std::string& format, const std::string& level)
    : writer_(std::make_unique<Writer>()) {
    writer_->file = file;
    writer_->format = format;
    writer_->open(level);
}

AccessLog::~AccessLog() = default;

void AccessLog::reopen(const std::string& level) {
    writer_->open(level);
}

void AccessLog::note(const char* level, const std::string& message, const Json& facts) {
    Json line{{"time", utc_now()}, {"level", level}, {"message", message}};
    line.update(facts);
    writer_->write(level, std::move(line));
}

void AccessLog::request(const Call& call, const std::string& client, double seconds) {
    const CallRecord& r = call.record;
    Json line{{"time", utc_now()},
              {"level", "info"},
              {"message", "request"},
              {"id", call.id},
              {"client", client},
              {"key", call.key ? Json(call.key->name) : Json()},
              {"method", call.head.method.substr(0, 16)},
              {"endpoint", r.endpoint},
              {"status", r.status},
              {"code", r.code.empty() ? Json() : Json(r.code)},
              {"finish", r.finish},
              {"seconds", rounded(seconds)},
              {"bytes_in", r.bytes_in},
              {"bytes_out", r.bytes_out}};
    if (r.prompt_tokens > 0)
        line.update(Json{{"prompt_tokens", r.prompt_tokens},
                         {"image_tokens", r.image_tokens},
                         {"cached_tokens", r.cached_tokens},
                         {"completion_tokens", r.completion_tokens},
                         {"tiles", r.tiles},
                         {"first_token", r.first_token ? Json(rounded(*r.first_token)) : Json()},
                         {"queue", rounded(r.queue)},
                         {"fetch", rounded(r.fetch)},
                         {"decode", rounded(r.decode)},
                         {"resize", rounded(r.resize)},
                         {"vision", rounded(r.vision)},
                         {"prefill", rounded(r.prefill)},
                         {"decode_tokens", rounded(r.decode_tokens)}});
    writer_->write("info", std::move(line));
}

}  // namespace internvl
