#pragma once
#include <chrono>
#include <optional>
#include <string>

namespace internvl {

// Tells systemd how the service does: READY=1, STOPPING=1, WATCHDOG=1. Without systemd
// ($NOTIFY_SOCKET) nothing happens.
void notify_systemd(const std::string& state);
// How often WATCHDOG=1 must come, if it must.
std::optional<std::chrono::microseconds> watchdog_interval();

}  // namespace internvl
