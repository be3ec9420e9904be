#include "io/sealed_writer.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <vector>

#include "base/log.h"
#include "io/descriptor.h"

namespace internvl {

namespace {

void complain(const std::string& path, int problem) {
    log_warning("cannot keep packed weights ({}): {}", std::strerror(problem), path);
}

bool write_at(int fd, const void* data, int64_t bytes, int64_t at) {
    for (const char* from = static_cast<const char*>(data); bytes > 0;) {
        const ssize_t n = ::pwrite(fd, from, size_t(bytes), at);
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        from += n, bytes -= n, at += n;
    }
    return true;
}

// Opens a file for this writer alone; an errno when that cannot be. The lock goes with the name:
// who waited for one that was renamed meanwhile would have locked what others read.
int open_alone(const std::string& part, Descriptor& file) {
    file.reset(::open(part.c_str(), O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0644));
    if (file.fd < 0 || ::flock(file.fd, LOCK_EX | LOCK_NB) != 0) return errno;
    struct stat held {
    }, named{};
    if (::fstat(file.fd, &held) != 0 || ::stat(part.c_str(), &named) != 0 ||
        held.st_ino != named.st_ino || held.st_dev != named.st_dev)
        return EWOULDBLOCK;
    return ::ftruncate(file.fd, 0) == 0 ? 0 : errno;
}

}  // namespace

SealedWriter::SealedWriter(std::string path, const SealedHead& head, std::shared_ptr<void> image,
                           const std::atomic<bool>* cancel)
    : path_(std::move(path)), bytes_(head.bytes), image_(std::move(image)), cancel_(cancel) {
    std::memcpy(image_.get(), &head, sizeof head);
    std::error_code error;
    std::filesystem::create_directories(std::filesystem::path(path_).parent_path(), error);
    if (error)
        complain(path_, error.value());
    else
        thread_ = std::thread([this] { run(); });
}

SealedWriter::~SealedWriter() {
    leaving_ = true;
    if (thread_.joinable()) thread_.join();
}

void SealedWriter::run() const {
    ::setpriority(PRIO_PROCESS, 0, 10);  // of this thread: answers go first
    const std::string part = path_ + ".part";
    Descriptor file;
    if (const int problem = open_alone(part, file)) {
        if (problem != EWOULDBLOCK) return complain(path_, problem);
        log_info("packed weights are being written by another process: {}", path_);
        return;
    }
    errno = 0;
    if (write(file.fd) && std::rename(part.c_str(), path_.c_str()) == 0) {
        log_info("kept packed weights: {}", path_);
        return;
    }
    if (errno != ECANCELED) complain(path_, errno);
    ::unlink(part.c_str());
}

// In whole blocks, which the system then keeps in pages as large: where it can, it maps these
// without loss beside memory of our own.
bool SealedWriter::write(int file) const {
    // The room first: a disk that would be full is not filled.
    if (::fallocate(file, 0, 0, sealed_bytes(bytes_)) != 0 && errno != EOPNOTSUPP &&
        errno != ENOSYS && errno != EINVAL)
        return false;
    const std::byte* const image = static_cast<const std::byte*>(image_.get());
    std::vector<QuickDigest> digests;
    for (int64_t at = 0; at < bytes_; at += seal_block) {
        if (leaving_ && cancel_ && *cancel_) {
            errno = ECANCELED;
            return false;
        }
        const int64_t count = std::min(seal_block, bytes_ - at);
        digests.push_back(quick_digest(image + at, size_t(count)));
        if (!write_at(file, image + at, count, at)) return false;
    }
    const int64_t bytes = int64_t(digests.size() * sizeof digests[0]);
    const DigestKey seal = Digest().update(digests.data(), size_t(bytes)).key();
    return write_at(file, digests.data(), bytes, bytes_) &&
           write_at(file, seal.data(), int64_t(seal.size()), bytes_ + bytes) &&
           (::fsync(file) == 0 || errno == EINVAL);
}

}  // namespace internvl
