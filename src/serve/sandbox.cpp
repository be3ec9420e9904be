#include "serve/sandbox.h"

#include <seccomp.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>
#include <string>

#include "base/error.h"

namespace internvl {
namespace {

[[noreturn]] void fail(const char* what, int error) {
    throw Error(std::string("cannot enter the sandbox: ") + what, "Linux with seccomp",
                std::strerror(error));
}

void limit(__rlimit_resource resource, int64_t most) {
    const rlimit value{rlim_t(most), rlim_t(most)};
    if (::setrlimit(resource, &value) != 0) fail("limits", errno);
}

#if defined(__SANITIZE_ADDRESS__)
constexpr bool reserves_terabytes = true;
#elif defined(__has_feature)
constexpr bool reserves_terabytes = __has_feature(address_sanitizer);
#else
constexpr bool reserves_terabytes = false;
#endif

// Memory, time, the socket and the files that are there. Nothing takes a path.
constexpr int harmless[] = {
    SCMP_SYS(read),
    SCMP_SYS(write),
    SCMP_SYS(recvmsg),
    SCMP_SYS(sendmsg),
    SCMP_SYS(close),
    SCMP_SYS(munmap),
    SCMP_SYS(madvise),
    SCMP_SYS(brk),
    SCMP_SYS(futex),
    SCMP_SYS(exit),
    SCMP_SYS(exit_group),
    SCMP_SYS(rt_sigreturn),
    SCMP_SYS(rt_sigprocmask),
    SCMP_SYS(sigaltstack),
    SCMP_SYS(clock_gettime),
    SCMP_SYS(gettimeofday),
    SCMP_SYS(getrandom),
    SCMP_SYS(sched_yield),
    SCMP_SYS(sched_getaffinity),
    SCMP_SYS(clock_nanosleep),
    SCMP_SYS(getpid),
    SCMP_SYS(gettid),
    SCMP_SYS(getrusage),
    SCMP_SYS(sysinfo),
};

}  // namespace

void enter_sandbox(int64_t address_space) {
    limit(RLIMIT_CORE, 0);
    limit(RLIMIT_FSIZE, 0);
    limit(RLIMIT_NOFILE, 16);
    if (!reserves_terabytes) limit(RLIMIT_AS, address_space);
    if (::prctl(PR_SET_DUMPABLE, 0) != 0) fail("core dumps", errno);
    if (::prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) fail("privileges", errno);

    const std::unique_ptr<void, void (*)(scmp_filter_ctx)> filter(
        seccomp_init(SCMP_ACT_ERRNO(EPERM)), seccomp_release);
    if (!filter) fail("system calls", ENOMEM);
    int error = 0;
    const auto allow = [&](int call, auto... conditions) {
        const int code = seccomp_rule_add(filter.get(), SCMP_ACT_ALLOW, call,
                                          unsigned(sizeof...(conditions)), conditions...);
        if (code != 0 && error == 0) error = -code;
    };
    for (const int call : harmless) allow(call);
    // A sanitizer finds out by a pipe whether memory can be read.
    if (reserves_terabytes)
        for (const int call : {SCMP_SYS(pipe), SCMP_SYS(pipe2)}) allow(call);
    // No memory that can be executed.
    const auto no_code = SCMP_A2(SCMP_CMP_MASKED_EQ, PROT_EXEC, 0);
    allow(SCMP_SYS(mmap), no_code);
    allow(SCMP_SYS(mprotect), no_code);
    allow(SCMP_SYS(mremap));
    // abort(), and nobody else's end.
    allow(SCMP_SYS(tgkill), SCMP_A0(SCMP_CMP_EQ, scmp_datum_t(::getpid())));
    if (error == 0) error = -seccomp_load(filter.get());
    if (error != 0) fail("system calls", error);
}

}  // namespace internvl
