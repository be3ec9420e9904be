// What a worker can no longer do once it is in its sandbox.
#include "serve/sandbox.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <csignal>
#include <ctime>
#include <fstream>
#include <functional>
#include <vector>

namespace internvl {
namespace {

// What this process, and so its child, has taken already, in bytes.
int64_t address_space() {
    int64_t pages = 0;
    std::ifstream("/proc/self/statm") >> pages;
    return pages * ::sysconf(_SC_PAGESIZE);
}

// Runs the action in a process that is in the sandbox; its status, or minus the signal.
int confined(const std::function<int()>& action) {
    const pid_t pid = ::fork();
    if (pid == 0) {
        try {
            enter_sandbox(address_space() + (int64_t(1) << 30));
            ::_exit(action());
        } catch (...) {
            ::_exit(99);
        }
    }
    int status = 0;
    EXPECT_EQ(::waitpid(pid, &status, 0), pid);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
}

// 0 when the call is refused.
int refused(long result) {
    return result == -1 && errno == EPERM ? 0 : 1;
}

TEST(Sandbox, ComputesOnMemory) {
    EXPECT_EQ(confined([] {
                  std::vector<char> room(64 << 20);
                  room[12345] = 1;
                  try {
                      throw 7;
                  } catch (int) {
                  }
                  timespec now;
                  return ::clock_gettime(CLOCK_MONOTONIC, &now) + int(room[12345]) - 1;
              }),
              0);
}

TEST(Sandbox, OpensNothing) {
    EXPECT_EQ(confined([] { return refused(::open("/etc/passwd", O_RDONLY)); }), 0);
    EXPECT_EQ(confined([] { return refused(::open("/tmp/x", O_CREAT | O_WRONLY, 0600)); }), 0);
    EXPECT_EQ(confined([] { return refused(::syscall(SYS_openat2, 0, "x", nullptr, 0)); }), 0);
    EXPECT_EQ(confined([] { return refused(::access("/etc/passwd", R_OK)); }), 0);
    EXPECT_EQ(confined([] { return refused(::unlink("/tmp/x")); }), 0);
    EXPECT_EQ(confined([] { return refused(::syscall(SYS_memfd_create, "x", 0)); }), 0);
    EXPECT_EQ(confined([] { return refused(::syscall(SYS_io_uring_setup, 1, nullptr)); }), 0);
}

TEST(Sandbox, ReachesNobody) {
    EXPECT_EQ(confined([] { return refused(::socket(AF_INET, SOCK_STREAM, 0)); }), 0);
    EXPECT_EQ(confined([] { return refused(::socket(AF_INET6, SOCK_DGRAM, 0)); }), 0);
    EXPECT_EQ(confined([] { return refused(::socket(AF_UNIX, SOCK_STREAM, 0)); }), 0);
    EXPECT_EQ(confined([] {
                  int pair[2];
                  return refused(::socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
              }),
              0);
    EXPECT_EQ(confined([] { return refused(::kill(::getppid(), 0)); }), 0);
    EXPECT_EQ(confined([] { return refused(::syscall(SYS_tgkill, ::getppid(), ::getppid(), 0)); }),
              0);
    EXPECT_EQ(confined([] { return refused(::ptrace(PTRACE_TRACEME, 0, nullptr, nullptr)); }), 0);
}

TEST(Sandbox, StartsNothing) {
    EXPECT_EQ(confined([] { return refused(::syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0)); }), 0);
    EXPECT_EQ(confined([] { return refused(::execl("/bin/true", "true", nullptr)); }), 0);
    EXPECT_EQ(confined([] {
                  void* code = ::mmap(nullptr, 4096, PROT_READ | PROT_EXEC,
                                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
                  return refused(code == MAP_FAILED ? -1 : 0);
              }),
              0);
    EXPECT_EQ(confined([] {
                  void* data = ::mmap(nullptr, 4096, PROT_READ | PROT_WRITE,
                                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
                  return refused(::mprotect(data, 4096, PROT_READ | PROT_EXEC));
              }),
              0);
    EXPECT_EQ(confined([] {
                  const rlimit more{RLIM_INFINITY, RLIM_INFINITY};
                  return refused(::setrlimit(RLIMIT_AS, &more));
              }),
              0);
}

TEST(Sandbox, HasOnlySoMuchMemory) {
#ifdef INTERNVL_SANITIZED
    GTEST_SKIP() << "a sanitizer's address space is not limited";
#endif
    EXPECT_EQ(confined([] {
                  void* much = ::mmap(nullptr, size_t(2) << 30, PROT_READ | PROT_WRITE,
                                      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
                  return much == MAP_FAILED && errno == ENOMEM ? 0 : 1;
              }),
              0);
}

}  // namespace
}  // namespace internvl
