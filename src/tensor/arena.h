#pragma once
#include <initializer_list>
#include <memory>

#include "tensor/tensor.h"

namespace internvl {

// Memory of activations. A tensor's bytes go back to the arena when its last copy dies and serve
// the next request of a like size, so a forward pass touches fresh pages only the first time. For
// one computing thread at a time.
class Arena {
  public:
    Arena();
    // Aligned to 64 bytes, contents undefined.
    Tensor get(DType dtype, std::initializer_list<int64_t> shape);
    int64_t held_bytes() const;  // in use or kept for reuse
    void trim();                 // gives back to the system what is not in use

  private:
    struct Store;
    std::shared_ptr<Store> store_;
};

// Anonymous memory, zero, aligned to 2 MiB and backed by huge pages where the system has them.
std::shared_ptr<void> map_memory(size_t bytes);

}  // namespace internvl
