#include "serve/rate_limit.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace internvl {

static double seconds(Clock::duration d) {
    return std::chrono::duration<double>(d).count();
}

// Seconds until `wanted` are there, as Retry-After may say it.
static int wait_for(double wanted, double left, int64_t a_minute) {
    return std::clamp(int(std::ceil((wanted - left) * 60 / double(a_minute))), 1, 60);
}

RateLimiter::Client& RateLimiter::refill(const std::string& name, const ClientLimits& limits,
                                         Clock::time_point now) {
    if (clients_.size() >= 10'000 && !clients_.contains(name)) forget_idle(now);
    const auto [place, fresh] = clients_.try_emplace(name);
    Client& c = place->second;
    if (fresh) c = {double(limits.rpm), double(limits.tpm), 0, now};
    const double minutes = std::max(0.0, seconds(now - c.at) / 60);
    c.requests = std::min(double(limits.rpm), c.requests + minutes * double(limits.rpm));
    c.tokens = std::min(double(limits.tpm), c.tokens + minutes * double(limits.tpm));
    c.at = std::max(c.at, now);
    return c;
}

// A bucket is full again after a minute, so its client need not be remembered.
void RateLimiter::forget_idle(Clock::time_point now) {
    std::erase_if(clients_, [&](const auto& entry) {
        return entry.second.running == 0 && seconds(now - entry.second.at) > 60;
    });
}

RateLimiter::Verdict RateLimiter::enter(const std::string& name, const ClientLimits& limits,
                                        Clock::time_point now) {
    const std::lock_guard lock(mutex_);
    Client& c = refill(name, limits, now);
    Verdict v;
    if (limits.concurrency > 0 && c.running >= limits.concurrency)
        v = {false, 1, "requests at a time"};
    else if (limits.rpm > 0 && c.requests < 1 - 1e-9)
        v = {false, wait_for(1, c.requests, limits.rpm), "requests a minute"};
    else if (limits.tpm > 0 && c.tokens < 1)
        v = {false, wait_for(1, c.tokens, limits.tpm), "tokens a minute"};
    if (v.allowed) {
        ++c.running;
        if (limits.rpm > 0) c.requests -= 1;
    }
    const auto tell = [&](const char* what, int64_t limit, double left) {
        if (limit <= 0) return;
        const auto add = [&](const char* kind, std::string value) {
            v.headers.emplace_back(fmt::format("x-ratelimit-{}-{}", kind, what), std::move(value));
        };
        add("limit", std::to_string(limit));
        add("remaining", std::to_string(int64_t(std::max(0.0, left))));
        add("reset",
            fmt::format("{:.0f}s", std::ceil((double(limit) - left) * 60 / double(limit))));
    };
    tell("requests", limits.rpm, c.requests);
    tell("tokens", limits.tpm, c.tokens);
    return v;
}

void RateLimiter::leave(const std::string& name) {
    const std::lock_guard lock(mutex_);
    if (const auto c = clients_.find(name); c != clients_.end()) --c->second.running;
}

std::optional<int> RateLimiter::take_tokens(const std::string& name, const ClientLimits& limits,
                                            int64_t tokens, Clock::time_point now) {
    if (limits.tpm <= 0) return std::nullopt;
    const std::lock_guard lock(mutex_);
    Client& c = refill(name, limits, now);
    const double wanted = double(std::min(tokens, limits.tpm));
    if (c.tokens < wanted) return wait_for(wanted, c.tokens, limits.tpm);
    c.tokens -= double(tokens);
    return std::nullopt;
}

void RateLimiter::charge(const std::string& name, int64_t tokens) {
    const std::lock_guard lock(mutex_);
    if (const auto c = clients_.find(name); c != clients_.end()) c->second.tokens -= double(tokens);
}

}  // namespace internvl
