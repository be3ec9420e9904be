#include "io/partial_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <vector>

namespace internvl {

// 40 digits are SHA-1 over git's blob, which begins with its kind and length.
static Digest begin_digest(const std::string& digest, int64_t bytes) {
    if (digest.size() != 40) return Digest(Digest::Kind::sha256);
    Digest sum(Digest::Kind::sha1);
    const std::string head = "blob " + std::to_string(bytes);
    sum.update(head.c_str(), head.size() + 1);
    return sum;
}

PartialFile::PartialFile(const std::string& path, int64_t bytes, const std::string& digest,
                         const std::function<void()>& check_stop)
    : path_(path),
      digest_(digest),
      bytes_(bytes),
      file_(::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666)),
      sum_(begin_digest(digest, bytes)) {
    if (file_.fd < 0) fail();
    std::vector<char> piece(size_t(1) << 20);
    ssize_t n = 0;
    while (have_ <= bytes_ && (n = ::read(file_.fd, piece.data(), piece.size())) > 0) {
        check_stop();
        sum_.update(piece.data(), size_t(n));
        have_ += n;
    }
    if (n < 0) fail();
    if (have_ > bytes_) restart();
}

void PartialFile::fail() const {
    throw Error("cannot write file", "", std::strerror(errno), path_);
}

void PartialFile::append(const char* data, size_t bytes) {
    if (int64_t(bytes) > bytes_ - have_)
        throw Damaged("the download is longer than announced", std::to_string(bytes_) + " bytes",
                      "more", path_);
    for (size_t done = 0; done < bytes;) {
        const ssize_t n = ::write(file_.fd, data + done, bytes - done);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) fail();
        done += size_t(n);
    }
    sum_.update(data, bytes);
    have_ += int64_t(bytes);
}

void PartialFile::restart() {
    if (::ftruncate(file_.fd, 0) != 0 || ::lseek(file_.fd, 0, SEEK_SET) != 0) fail();
    have_ = 0;
    sum_ = begin_digest(digest_, bytes_);
}

void PartialFile::finish() {
    const std::string found = sum_.hex();
    if (found != digest_)
        throw Damaged("the downloaded file has the wrong checksum", digest_, found, path_);
    if (::fsync(file_.fd) != 0 && errno != EINVAL) fail();
}

}  // namespace internvl
