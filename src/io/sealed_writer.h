#pragma once
#include <atomic>
#include <memory>
#include <string>
#include <thread>

#include "io/sealed_file.h"

namespace internvl {

// Writes a sealed file beside everything else. It gets its name when all of it is on the disk;
// until then it is PATH.part, which its one writer has locked, and which the next writer takes over
// when this process is killed. What cannot be written is not kept, with one warning.
class SealedWriter {
  public:
    // `image`: head.bytes of memory that nobody changes any more, the first of them for the head.
    // `cancel`, if any: set, the file is given up when its end would have to be waited for.
    SealedWriter(std::string path, const SealedHead& head, std::shared_ptr<void> image,
                 const std::atomic<bool>* cancel = nullptr);
    ~SealedWriter();  // waits for the end
    SealedWriter(const SealedWriter&) = delete;
    SealedWriter& operator=(const SealedWriter&) = delete;

  private:
    void run() const;
    bool write(int file) const;

    std::string path_;
    int64_t bytes_;
    std::shared_ptr<void> image_;
    const std::atomic<bool>* cancel_;
    std::atomic<bool> leaving_ = false;
    std::thread thread_;
};

}  // namespace internvl
