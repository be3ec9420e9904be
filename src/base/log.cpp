#include "base/log.h"

#include <atomic>
#include <cstdio>
#include <string>

#include "base/error.h"

namespace internvl {

static std::atomic<LogLevel> threshold{LogLevel::warning};

static const char* const names[] = {"debug", "info", "warning", "error", "off"};

void set_log_level(LogLevel level) {
    threshold = level;
}

LogLevel parse_log_level(std::string_view name) {
    for (int i = 0; i < 5; ++i)
        if (name == names[i]) return LogLevel(i);
    throw UsageError("unknown log level", "debug, info, warning, error or off", std::string(name));
}

void log_line(LogLevel level, std::string_view text) {
    if (level < threshold) return;
    // One write per line, so that lines of several threads do not mix.
    const std::string line = fmt::format("internvl: {}: {}\n", names[int(level)], text);
    std::fwrite(line.data(), 1, line.size(), stderr);
}

}  // namespace internvl
