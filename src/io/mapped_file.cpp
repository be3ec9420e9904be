#include "io/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "base/error.h"

namespace internvl {

// At a multiple of 2 MiB, so that large pages of the file can be mapped as such. MAP_FAILED when it
// cannot be.
static void* map(int fd, size_t bytes) {
    constexpr size_t large = size_t(2) << 20;
    if (bytes < large) return mmap(nullptr, bytes, PROT_READ, MAP_PRIVATE, fd, 0);
    const size_t span = bytes + large;
    char* const room = static_cast<char*>(
        mmap(nullptr, span, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0));
    if (room == MAP_FAILED) return MAP_FAILED;
    const size_t page = size_t(sysconf(_SC_PAGESIZE));
    const size_t before = (large - reinterpret_cast<uintptr_t>(room) % large) % large;
    const size_t end = before + (bytes + page - 1) / page * page;
    void* const base = mmap(room + before, bytes, PROT_READ, MAP_PRIVATE | MAP_FIXED, fd, 0);
    if (base == MAP_FAILED) {
        munmap(room, span);
        return MAP_FAILED;
    }
    if (before > 0) munmap(room, before);
    if (end < span) munmap(room + end, span - end);
    return base;
}

MappedFile MappedFile::open(const std::string& path) {
    const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) throw Error("cannot open file", "", std::strerror(errno), path);
    struct stat info;
    const char* problem = nullptr;
    if (fstat(fd, &info) != 0)
        problem = std::strerror(errno);
    else if (S_ISDIR(info.st_mode))
        problem = "a folder";
    else if (!S_ISREG(info.st_mode))
        problem = "not a regular file";
    else if (info.st_size == 0)
        problem = "an empty file";
    void* base = MAP_FAILED;
    if (!problem) {
        base = map(fd, size_t(info.st_size));
        if (base == MAP_FAILED) problem = std::strerror(errno);
    }
    ::close(fd);
    if (problem) throw Error("cannot read file", "a file with contents", problem, path);
    MappedFile file;
    file.bytes_ = {static_cast<const std::byte*>(base), size_t(info.st_size)};
    file.modified_ = int64_t(info.st_mtim.tv_sec) * 1000000000 + info.st_mtim.tv_nsec;
    file.mapped_ = true;
    return file;
}

MappedFile MappedFile::of_bytes(std::span<const std::byte> bytes) {
    MappedFile file;
    file.bytes_ = bytes;
    return file;
}

MappedFile::MappedFile(MappedFile&& other) noexcept
    : bytes_(std::exchange(other.bytes_, {})),
      modified_(other.modified_),
      mapped_(std::exchange(other.mapped_, false)) {}

MappedFile& MappedFile::operator=(MappedFile&& other) noexcept {
    std::swap(bytes_, other.bytes_);
    std::swap(modified_, other.modified_);
    std::swap(mapped_, other.mapped_);
    return *this;
}

MappedFile::~MappedFile() {
    if (mapped_) munmap(const_cast<std::byte*>(bytes_.data()), bytes_.size());
}

// Whole pages inside the range only: neighbours may be in use.
void MappedFile::advise(std::span<const std::byte> range, int advice) const {
    if (!mapped_ || range.empty()) return;
    const uintptr_t page = uintptr_t(sysconf(_SC_PAGESIZE));
    const uintptr_t begin = (reinterpret_cast<uintptr_t>(range.data()) + page - 1) / page * page;
    const uintptr_t end = reinterpret_cast<uintptr_t>(range.data() + range.size()) / page * page;
    if (begin < end) madvise(reinterpret_cast<void*>(begin), end - begin, advice);
}

void MappedFile::drop(std::span<const std::byte> range) const {
    advise(range, MADV_DONTNEED);
}

void MappedFile::prefetch(std::span<const std::byte> range) const {
    advise(range, MADV_WILLNEED);
}

void MappedFile::use_large_pages() const {
    advise(bytes_, MADV_HUGEPAGE);
}

std::string read_file(const std::string& path, size_t limit) {
    const MappedFile file = MappedFile::open(path);
    if (file.bytes().size() > limit)
        throw Error("file is too large", "at most " + std::to_string(limit) + " bytes",
                    std::to_string(file.bytes().size()), path);
    return {reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
}

}  // namespace internvl
