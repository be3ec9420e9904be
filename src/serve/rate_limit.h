#pragma once
#include <mutex>
#include <optional>
#include <unordered_map>

#include "serve/auth.h"

namespace internvl {

// Token buckets: what each client has left of its requests and tokens a minute, and how many of its
// requests are being answered. Any thread may ask.
class RateLimiter {
  public:
    struct Verdict {
        bool allowed = true;
        int retry_after = 1;    // seconds, 1 to 60
        const char* what = "";  // which limit
        Headers headers = {};   // x-ratelimit-*
    };
    // One request more; takes a place among those being answered when it is allowed.
    Verdict enter(const std::string& client, const ClientLimits&, Clock::time_point now);
    void leave(const std::string& client);
    // Tokens of a prompt, if they are there; a prompt larger than a minute's tokens needs all of
    // them. nullopt: they are taken; else seconds until they are there.
    std::optional<int> take_tokens(const std::string& client, const ClientLimits&, int64_t tokens,
                                   Clock::time_point now);
    // Tokens of an answer, which were not known before.
    void charge(const std::string& client, int64_t tokens);

  private:
    struct Client {
        double requests = 0, tokens = 0;  // left
        int running = 0;
        Clock::time_point at;  // when they were counted
    };
    Client& refill(const std::string& client, const ClientLimits&, Clock::time_point);
    void forget_idle(Clock::time_point);

    std::mutex mutex_;
    std::unordered_map<std::string, Client> clients_;
};

}  // namespace internvl
