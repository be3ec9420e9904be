#pragma once
#include <string>

#include "base/digest.h"
#include "tensor/tensor.h"

namespace internvl {

// Rows of tiles in a folder, a file each, for other runs of the program. A file that is not exactly
// what it should be counts as none. What cannot be written is not kept, with one warning.
class RowFiles {
  public:
    // `identity` stands for all that rows depend on besides the tile (model/identity.h).
    RowFiles(std::string folder, const DigestKey& identity);

    // The rows [count, width] of a tile, or none.
    Tensor read(const DigestKey& tile, DType, int64_t count, int64_t width) const;
    void write(const DigestKey& tile, const View& rows);

  private:
    DigestKey name_of(const DigestKey& tile) const;
    std::string path_of(const DigestKey& name) const;
    void complain(const std::string& path);

    std::string folder_;
    DigestKey identity_;
    bool complained_ = false;
};

}  // namespace internvl
