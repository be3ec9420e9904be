// Any bytes as a message between the service and its media workers: what is read makes sense.
#include <cmath>
#include <cstdlib>

#include "serve/decode_job.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace internvl;
    const std::span<const uint8_t> bytes(data, size);
    if (const auto job = read_job(bytes)) {
        const auto again = to_message(*job);
        if (!std::equal(again.begin(), again.end(), bytes.begin(), bytes.end())) std::abort();
        const bool clip = job->kind == DecodeJob::Kind::clip;
        if (clip != !job->indices.empty() || job->tiles.min_num > job->tiles.max_num) std::abort();
    }
    if (const auto outcome = read_outcome(bytes))
        if (outcome->width < 0 || !std::isfinite(outcome->fps)) std::abort();
    return 0;
}
