#include "serve/worker_process.h"

#include <fcntl.h>
#include <poll.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <csignal>
#include <cstdlib>
#include <cstring>
#include <ctime>

#include "base/error.h"
#include "serve/media_worker.h"
#include "serve/packets.h"

namespace internvl {
namespace {

using Clock = std::chrono::steady_clock;
using How = JobEnd::How;

constexpr int worker_socket = 3;  // its number in the worker
constexpr int tick = 20;          // milliseconds
constexpr auto start_time = std::chrono::seconds(20);
// How much longer than its processor time a job may take on a busy machine.
constexpr int busy = 10;

[[noreturn]] void cannot_start(const std::string& why) {
    throw Error("cannot start a media worker", "a program that can be started, Linux with seccomp",
                why, "--media-sandbox");
}

// What a worker may know of the environment: nothing that is secret.
std::vector<std::string> environment() {
    std::vector<std::string> kept;
    for (const char* name : {"LD_LIBRARY_PATH", "INTERNVL_CPU", "ASAN_OPTIONS", "UBSAN_OPTIONS"})
        if (const char* value = std::getenv(name)) kept.push_back(std::string(name) + "=" + value);
    return kept;
}

std::vector<char*> pointers(std::vector<std::string>& words) {
    std::vector<char*> all;
    for (std::string& word : words) all.push_back(word.data());
    all.push_back(nullptr);
    return all;
}

// Starts PROGRAM media-worker with `socket` and standard error only. Returns an error number.
int spawn(const std::string& program, int socket, int64_t address_space, pid_t& pid) {
    posix_spawn_file_actions_t files;
    posix_spawnattr_t attributes;
    posix_spawn_file_actions_init(&files);
    posix_spawnattr_init(&attributes);
    posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&files, 1, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_adddup2(&files, socket, worker_socket);
    posix_spawn_file_actions_addclosefrom_np(&files, worker_socket + 1);
    sigset_t none, all;
    sigemptyset(&none);
    sigfillset(&all);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setsigdefault(&attributes, &all);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
    std::vector<std::string> words = {"internvl", "media-worker", std::to_string(worker_socket),
                                      std::to_string(address_space)};
    std::vector<std::string> variables = environment();
    const int error = posix_spawn(&pid, program.c_str(), &files, &attributes,
                                  pointers(words).data(), pointers(variables).data());
    posix_spawnattr_destroy(&attributes);
    posix_spawn_file_actions_destroy(&files);
    return error;
}

// A file in memory whose size the worker cannot change.
bool make_file(Descriptor& file, std::span<const std::byte> content, int64_t size) {
    file.reset(::memfd_create("media", MFD_CLOEXEC | MFD_ALLOW_SEALING));
    if (file.fd < 0 || ::ftruncate(file.fd, size) != 0) return false;
    for (size_t at = 0; at < content.size();) {
        const ssize_t put = ::pwrite(file.fd, content.data() + at, content.size() - at, off_t(at));
        if (put < 0 && errno == EINTR) continue;
        if (put <= 0) return false;
        at += size_t(put);
    }
    const int seals =
        F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL | (content.empty() ? 0 : F_SEAL_WRITE);
    return ::fcntl(file.fd, F_ADD_SEALS, seals) == 0;
}

// Read, not mapped: what is checked later is what was read, whoever still writes.
bool read_file(int file, std::vector<uint8_t>& out) {
    for (size_t at = 0; at < out.size();) {
        const ssize_t got = ::pread(file, out.data() + at, out.size() - at, off_t(at));
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return false;
        at += size_t(got);
    }
    return true;
}

std::chrono::nanoseconds processor_time(clockid_t clock) {
    timespec time{};
    if (::clock_gettime(clock, &time) != 0) return {};
    return std::chrono::seconds(time.tv_sec) + std::chrono::nanoseconds(time.tv_nsec);
}

// The kernel's own limit, should this process be the one that is stopped or slow.
void limit_processor_time(pid_t pid, std::chrono::milliseconds more) {
    clockid_t clock;
    if (::clock_getcpuclockid(pid, &clock) != 0) return;
    const auto most = std::chrono::ceil<std::chrono::seconds>(processor_time(clock) + more);
    const rlimit limit{rlim_t(most.count() + 1), RLIM_INFINITY};
    ::prlimit(pid, RLIMIT_CPU, &limit, nullptr);
}

}  // namespace

WorkerProcess::WorkerProcess(std::string program, int64_t address_space)
    : program_(std::move(program)), address_space_(address_space) {}

WorkerProcess::~WorkerProcess() {
    kill();
}

void WorkerProcess::kill() {
    socket_.reset();
    if (pid_ == 0) return;
    ::kill(pid_, SIGKILL);
    while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) continue;
    pid_ = 0;
}

bool WorkerProcess::alive() {
    if (pid_ == 0) return false;
    if (::waitpid(pid_, nullptr, WNOHANG) == 0) return true;
    pid_ = 0;
    socket_.reset();
    return false;
}

void WorkerProcess::start() {
    if (alive()) return;
    int ends[2];
    if (::socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends) != 0)
        cannot_start(std::strerror(errno));
    socket_.reset(ends[0]);
    const Descriptor other(ends[1]);
    if (const int error = spawn(program_, other.fd, address_space_, pid_); error != 0) {
        pid_ = 0;
        cannot_start(std::strerror(error));
    }
    const auto due = Clock::now() + start_time;
    pollfd events{socket_.fd, POLLIN, 0};
    int ready = 0;
    while (ready == 0 && Clock::now() < due && alive()) ready = ::poll(&events, 1, tick);
    Packet hello;
    if (ready != 1 || !receive_packet(socket_.fd, hello) ||
        !std::ranges::equal(hello.bytes, worker_ready)) {
        kill();
        cannot_start("one that ends or stays silent");
    }
}

JobEnd WorkerProcess::run(const DecodeJob& job, std::span<const std::byte> encoded,
                          std::chrono::milliseconds cpu, const std::function<bool()>& stopped) {
    try {
        start();
    } catch (const Error&) {
        return {How::not_started};
    }
    const int64_t room = job.tile_bytes();
    Descriptor in, out;
    if (!make_file(in, encoded, int64_t(encoded.size())) || !make_file(out, {}, room))
        return {How::not_started};
    limit_processor_time(pid_, cpu);
    const int files[] = {in.fd, out.fd};
    if (!send_packet(socket_.fd, to_message(job), files)) {
        kill();
        return {How::died};
    }
    JobEnd end = wait(cpu, stopped);
    if (end.how != How::answered) {
        kill();
        return end;
    }
    if (end.outcome.state == DecodeOutcome::State::done) {
        end.tiles.resize(size_t(room));
        if (!read_file(out.fd, end.tiles)) return {How::died};
    }
    return end;
}

JobEnd WorkerProcess::wait(std::chrono::milliseconds cpu, const std::function<bool()>& stopped) {
    clockid_t clock{};
    const bool measured = ::clock_getcpuclockid(pid_, &clock) == 0;
    const auto used_before = measured ? processor_time(clock) : std::chrono::nanoseconds();
    const auto due = Clock::now() + busy * cpu;
    for (;;) {
        pollfd events{socket_.fd, POLLIN, 0};
        if (::poll(&events, 1, tick) > 0) break;
        if (stopped()) return {How::stopped};
        const bool spent = measured && processor_time(clock) - used_before > cpu;
        if (spent || Clock::now() >= due) return {How::too_slow};
    }
    Packet answer;
    if (!receive_packet(socket_.fd, answer) || answer.file_count != 0) return {How::died};
    const auto outcome = read_outcome(answer.bytes);
    if (!outcome) return {How::died};
    return {How::answered, *outcome};
}

}  // namespace internvl
