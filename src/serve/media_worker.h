#pragma once
#include <cstdint>

namespace internvl {

// The life of a media worker: it enters the sandbox, says so, and does the jobs that come over
// `socket` until the other side is gone. Each brings two files: the encoded bytes, and room for the
// tiles. Returns the exit status.
int run_media_worker(int socket, int64_t address_space);

// The first message of a worker, when it is ready.
constexpr uint8_t worker_ready[] = {'M', 'V', 'R', '1'};

}  // namespace internvl
