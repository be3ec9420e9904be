#pragma once
#include <chrono>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

#include "base/cancel.h"
#include "base/error.h"
#include "io/url.h"

namespace internvl {

// All addresses of a name; empty when it has none.
using Resolver = std::function<std::vector<IpAddress>(const std::string& host)>;

// How web addresses of strangers are fetched (api.md 4.1, 4.3).
struct FetchRules {
    UrlRules urls;
    std::vector<AddressBlock> allowed;  // besides the public ones
    int redirects = 3;
    std::chrono::milliseconds connect{3'000}, first_byte{5'000};
    std::string proxy;  // "" = none, whatever the environment says
    Resolver resolve;   // empty: the system's
};

// Why nothing came, for those who word it.
struct FetchError : Error {
    enum class Why {
        malformed,    // no web address, or of another scheme
        not_allowed,  // address, port, host or redirect
        failed,       // by the other side: status, name, connection, time
        too_large,
        no_room,  // FetchLimits::take said so
        cancelled,
    };
    FetchError(Why, const std::string& what, long status = 0);
    Why why;
    long status;  // HTTP status that was answered; 0 = none
};

struct FetchLimits {
    int64_t bytes = 20 << 20;
    std::chrono::steady_clock::time_point deadline;
    std::function<bool(size_t more)> take = {};  // asked before bytes are kept; may be empty
};

// The body behind a web address, at most limits.bytes of it. Nothing is sent to an address that the
// rules do not admit; each name is resolved once, and the connection goes where that said. Blocks;
// throws FetchError.
std::vector<std::byte> fetch(const std::string& url, const FetchRules&, const FetchLimits&,
                             const CancelToken&);

}  // namespace internvl
