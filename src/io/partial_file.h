#pragma once
#include <cstdint>
#include <functional>
#include <string>

#include "base/digest.h"
#include "base/error.h"
#include "io/descriptor.h"

namespace internvl {

// What came is not what was announced: nothing of it can be kept.
struct Damaged : Error {
    using Error::Error;
};

// A file that is still coming: what is on the disk of it, and the digest of that.
class PartialFile {
  public:
    // Opens it, or creates it, and reads what it holds; `check_stop` may throw meanwhile. `digest`
    // as in RemoteFile.
    PartialFile(const std::string& path, int64_t bytes, const std::string& digest,
                const std::function<void()>& check_stop);

    int64_t have() const { return have_; }
    void append(const char* data, size_t bytes);  // throws Damaged beyond the announced size
    void restart();                               // from nothing
    void finish();  // all is there: onto the disk; throws Damaged when the digest is another

  private:
    void fail() const;

    std::string path_, digest_;
    int64_t bytes_, have_ = 0;
    Descriptor file_;
    Digest sum_;
};

}  // namespace internvl
