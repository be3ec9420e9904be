#pragma once
#include <chrono>
#include <cstddef>
#include <memory>
#include <vector>

#include "base/cancel.h"
#include "io/rooted_folder.h"
#include "serve/byte_budget.h"
#include "serve/media_error.h"
#include "serve/media_limits.h"

namespace internvl {

// Whether a part's bytes come over the network, so that others decide how long it takes.
bool is_remote(const MediaPart&);

// Where bytes may come from, for one request.
struct MediaSources {
    const MediaLimits* limits = nullptr;
    std::shared_ptr<ByteBudget> fetched;  // of what comes from elsewhere
    const RootedFolder* files = nullptr;  // null: there are no file: addresses
    bool may_read_files = false;
    std::chrono::steady_clock::time_point deadline;  // of the request
    CancelToken cancel;

    // The encoded bytes of a part, from its data:, http:, https: or file: address, within the
    // limits. Blocks. Throws MediaRefused.
    std::shared_ptr<const std::vector<std::byte>> read(const MediaPart&) const;

  private:
    std::shared_ptr<const std::vector<std::byte>> read_remote(const MediaPart&) const;
};

}  // namespace internvl
