#pragma once
#include <chrono>
#include <string>
#include <vector>

#include "base/cancel.h"
#include "io/ip_address.h"

namespace internvl {

// All addresses that the system knows for a name; empty when it has none, when it does not say
// until `deadline`, or once cancelled. The question itself cannot be taken back: it ends in the
// background, and while very many such are open nothing more is asked.
std::vector<IpAddress> resolve_host(const std::string& host,
                                    std::chrono::steady_clock::time_point deadline,
                                    const CancelToken&);

}  // namespace internvl
