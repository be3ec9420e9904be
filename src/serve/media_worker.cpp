#include "serve/media_worker.h"

#include <malloc.h>
#include <sys/mman.h>
#include <sys/prctl.h>

#include <csignal>

#include "serve/decode_job.h"
#include "serve/packets.h"
#include "serve/sandbox.h"

namespace internvl {
namespace {

// A file's bytes in memory, as long as the object lives.
struct Mapping {
    void* start = MAP_FAILED;
    size_t bytes;

    Mapping(int file, int64_t size, int protection) : bytes(size_t(size)) {
        if (size > 0) start = ::mmap(nullptr, bytes, protection, MAP_SHARED, file, 0);
    }
    ~Mapping() {
        if (start != MAP_FAILED) ::munmap(start, bytes);
    }
    Mapping(const Mapping&) = delete;
    Mapping& operator=(const Mapping&) = delete;

    std::span<uint8_t> span() const {
        return start == MAP_FAILED ? std::span<uint8_t>()
                                   : std::span(static_cast<uint8_t*>(start), bytes);
    }
    bool fits(int64_t size) const { return int64_t(span().size()) == size; }
};

DecodeOutcome serve(const Packet& packet) {
    DecodeOutcome outcome;
    const auto job = read_job(packet.bytes);
    if (!job || packet.file_count != 2) return outcome;
    const int64_t room = job->tile_bytes();
    const Mapping encoded(packet.files[0].fd, job->encoded_bytes, PROT_READ);
    const Mapping tiles(packet.files[1].fd, room, PROT_READ | PROT_WRITE);
    if (!encoded.fits(job->encoded_bytes) || !tiles.fits(room)) {
        outcome.state = DecodeOutcome::State::too_large;
        return outcome;
    }
    return run_job(*job, encoded.span(), tiles.span());
}

}  // namespace

int run_media_worker(int socket, int64_t address_space) {
    // Whoever ends the service by a signal to the whole group lets running answers finish; the
    // worker ends when the service does.
    for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGPIPE}) std::signal(signal, SIG_IGN);
    ::prctl(PR_SET_PDEATHSIG, SIGKILL);
    enter_sandbox(address_space);
    if (!send_packet(socket, worker_ready)) return 1;
    for (;;) {
        Packet packet;
        if (!receive_packet(socket, packet)) return 0;
        const DecodeOutcome outcome = serve(packet);
        if (!send_packet(socket, to_message(outcome))) return 0;
        ::malloc_trim(0);  // a worker that has seen a large picture does not keep its room
    }
}

}  // namespace internvl
