#include "engine/row_files.h"

#include <fcntl.h>
#include <sys/stat.h>

#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "base/log.h"
#include "io/descriptor.h"

namespace internvl {

namespace {

// In front of the rows. A change of layout is another magic.
struct Header {
    char magic[8] = {'I', 'V', 'R', 'O', 'W', 'S', '0', '1'};
    DigestKey name = {};  // as in the file's name
    int64_t dtype = 0, count = 0, width = 0;
    DigestKey checksum = {};  // of the rows
};

Header header_of(const DigestKey& name, const View& rows) {
    Header h;
    h.name = name;
    h.dtype = int64_t(rows.dtype);
    h.count = rows.dim[0];
    h.width = rows.dim[1];
    h.checksum = Digest().update(rows.data, size_t(rows.bytes())).key();
    return h;
}

bool read_all(int fd, void* data, int64_t bytes) {
    for (char* to = static_cast<char*>(data); bytes > 0;) {
        const ssize_t n = ::read(fd, to, size_t(bytes));
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        to += n, bytes -= n;
    }
    return true;
}

bool write_all(int fd, const void* data, int64_t bytes) {
    for (const char* from = static_cast<const char*>(data); bytes > 0;) {
        const ssize_t n = ::write(fd, from, size_t(bytes));
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return false;
        from += n, bytes -= n;
    }
    return true;
}

}  // namespace

RowFiles::RowFiles(std::string folder, const DigestKey& identity)
    : folder_(std::move(folder)), identity_(identity) {
    std::error_code error;
    std::filesystem::create_directories(folder_, error);
    if (error) {
        errno = error.value();
        complain(folder_);
    }
}

DigestKey RowFiles::name_of(const DigestKey& tile) const {
    return Digest()
        .update(identity_.data(), identity_.size())
        .update(tile.data(), tile.size())
        .key();
}

std::string RowFiles::path_of(const DigestKey& name) const {
    return folder_ + "/" + hex(name) + ".rows";
}

Tensor RowFiles::read(const DigestKey& tile, DType dtype, int64_t count, int64_t width) const {
    const DigestKey name = name_of(tile);
    const Descriptor file(::open(path_of(name).c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK));
    struct stat info {};
    if (file.fd < 0 || ::fstat(file.fd, &info) != 0 || !S_ISREG(info.st_mode)) return {};
    Tensor rows = make_tensor(dtype, {count, width});
    Header found;
    if (info.st_size != int64_t(sizeof found) + rows.bytes() ||
        !read_all(file.fd, &found, sizeof found) || !read_all(file.fd, rows.data, rows.bytes()))
        return {};
    const Header expected = header_of(name, rows);
    return std::memcmp(&found, &expected, sizeof found) == 0 ? rows : Tensor();
}

void RowFiles::complain(const std::string& path) {
    if (!complained_)
        log_warning("cannot keep rows of pictures ({}): {}", std::strerror(errno), path);
    complained_ = true;
}

void RowFiles::write(const DigestKey& tile, const View& rows) {
    const DigestKey name = name_of(tile);
    const std::string path = path_of(name);
    const std::string temporary = fmt::format("{}.{}", path, ::getpid());  // of this process alone
    const Header header = header_of(name, rows);
    Descriptor file(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));
    if (file.fd < 0) return complain(path);
    if (write_all(file.fd, &header, sizeof header) && write_all(file.fd, rows.data, rows.bytes()) &&
        std::rename(temporary.c_str(), path.c_str()) == 0)
        return;
    complain(path);
    ::unlink(temporary.c_str());
}

}  // namespace internvl
