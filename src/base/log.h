#pragma once
#include <fmt/format.h>

#include <string_view>

namespace internvl {

enum class LogLevel { debug, info, warning, error, off };

// Lines on stderr, `internvl: warning: ...`. The level is the one process-wide setting of the
// program.
void set_log_level(LogLevel level);
LogLevel parse_log_level(std::string_view name);  // throws UsageError
void log_line(LogLevel level, std::string_view text);

template <class... Args>
void log_debug(fmt::format_string<Args...> format, Args&&... args) {
    log_line(LogLevel::debug, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void log_info(fmt::format_string<Args...> format, Args&&... args) {
    log_line(LogLevel::info, fmt::format(format, std::forward<Args>(args)...));
}
template <class... Args>
void log_warning(fmt::format_string<Args...> format, Args&&... args) {
    log_line(LogLevel::warning, fmt::format(format, std::forward<Args>(args)...));
}

}  // namespace internvl
