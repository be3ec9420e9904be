#include "io/rooted_folder.h"

#include <fcntl.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "base/error.h"

namespace internvl {
namespace {

// O_NONBLOCK: the open of a pipe nobody writes to would wait.
constexpr int flags = O_RDONLY | O_NONBLOCK | O_CLOEXEC | O_NOCTTY | O_NOFOLLOW;

// Component by component, for kernels without openat2; -1 when one is a link or not there.
int open_stepwise(int folder, const std::string& path) {
    Descriptor at;
    for (size_t begin = 0;;) {
        const size_t slash = path.find('/', begin);
        const std::string name = path.substr(begin, slash - begin);
        const int parent = at.fd < 0 ? folder : at.fd;
        if (slash == path.npos) return ::openat(parent, name.c_str(), flags);
        at.reset(::openat(parent, name.c_str(), flags | O_DIRECTORY));
        if (at.fd < 0) return -1;
        begin = slash + 1;
    }
}

int open_beneath(int folder, const std::string& path, bool stepwise) {
    if (stepwise) return open_stepwise(folder, path);
    open_how how{};
    how.flags = flags;
    how.resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS;
    const long fd = ::syscall(SYS_openat2, folder, path.c_str(), &how, sizeof how);
    if (fd < 0 && (errno == ENOSYS || errno == EPERM)) return open_stepwise(folder, path);
    return int(fd);
}

// No empty part and none that is "." or "..": what is left means one place.
bool is_plain(const std::string& path) {
    if (path.empty() || path.find('\0') != path.npos) return false;
    for (size_t begin = 0; begin <= path.size();) {
        const size_t slash = std::min(path.find('/', begin), path.size());
        const std::string part = path.substr(begin, slash - begin);
        if (part.empty() || part == "." || part == "..") return false;
        begin = slash + 1;
    }
    return true;
}

}  // namespace

RootedFolder::RootedFolder(const std::string& path, bool stepwise) : stepwise_(stepwise) {
    const std::unique_ptr<char, decltype(&std::free)> real(::realpath(path.c_str(), nullptr),
                                                           std::free);
    if (real) folder_.reset(::open(real.get(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    if (folder_.fd < 0)
        throw Error("cannot open the folder of media", "a folder", std::strerror(errno), path);
    root_ = real.get();
    if (!root_.ends_with('/')) root_ += '/';
}

std::optional<std::vector<std::byte>> RootedFolder::read(const std::string& path,
                                                         int64_t limit) const {
    if (!path.starts_with(root_)) return std::nullopt;
    const std::string inside = path.substr(root_.size());
    if (!is_plain(inside)) return std::nullopt;
    const Descriptor file(open_beneath(folder_.fd, inside, stepwise_));
    struct stat about {};
    if (file.fd < 0 || ::fstat(file.fd, &about) != 0 || !S_ISREG(about.st_mode) ||
        about.st_size > limit)
        return std::nullopt;
    std::vector<std::byte> bytes(size_t(about.st_size));
    for (size_t have = 0; have < bytes.size();) {
        const ssize_t got = ::read(file.fd, bytes.data() + have, bytes.size() - have);
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return std::nullopt;  // it has become shorter
        have += size_t(got);
    }
    return bytes;
}

}  // namespace internvl
