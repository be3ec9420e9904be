#pragma once
#include <cstddef>
#include <span>
#include <string>

namespace internvl {

// A file read by mapping it, for as long as the object lives. Also stands for bytes of the program
// itself (a built-in model), which are never unmapped.
class MappedFile {
  public:
    static MappedFile open(
        const std::string& path);  // throws Error: no such file, a folder, no permission, empty
    static MappedFile of_bytes(std::span<const std::byte> bytes);
    MappedFile(MappedFile&&) noexcept;
    MappedFile& operator=(MappedFile&&) noexcept;
    ~MappedFile();

    std::span<const std::byte> bytes() const { return bytes_; }
    // The range will not be read again soon: its pages need not count as memory of this process.
    void drop(std::span<const std::byte> range) const;
    // When the file was changed last, in ns; 0 for bytes of the program.
    int64_t modified() const { return modified_; }
    // The range will be read soon.
    void prefetch(std::span<const std::byte> range) const;
    // All of it will be read again and again: in large pages, where the system has them for files.
    void use_large_pages() const;

  private:
    MappedFile() = default;
    void advise(std::span<const std::byte> range, int advice) const;

    std::span<const std::byte> bytes_;
    int64_t modified_ = 0;
    bool mapped_ = false;
};

// The whole of a small file, at most `limit` bytes. Throws Error.
std::string read_file(const std::string& path, size_t limit = size_t(256) << 20);

}  // namespace internvl
