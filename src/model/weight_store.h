#pragma once
#include <initializer_list>
#include <memory>
#include <string>

#include "io/mapped_file.h"
#include "io/sealed_file.h"
#include "tensor/tensor.h"

namespace internvl {

// Where prepared weights lie, one part behind the other, in the order in which they are asked for:
// in memory, for the one who asks to fill; or in a mapped file, as another run filled them. Behind
// room for the head of such a file.
class WeightStore {
  public:
    explicit WeightStore(int64_t most_bytes);  // address space: untouched pages cost nothing
    WeightStore(MappedFile, const SealedHead&);

    bool filled() const { return filled_; }
    // The next part, aligned to 64 bytes. `what`: its name and all that its bytes mean.
    std::shared_ptr<void> take(const std::string& what, int64_t bytes);
    Tensor take(const std::string& name, DType, std::initializer_list<int64_t> shape);

    // After the last part. Whether a file held these parts and no others; else nothing of it is of
    // any use.
    bool complete() const;
    SealedHead head(const DigestKey& identity) const;
    const std::shared_ptr<void>& memory() const { return memory_; }

  private:
    std::shared_ptr<void> memory_;
    bool filled_, fits_ = true;
    int64_t bytes_, used_ = sizeof(SealedHead);
    DigestKey expected_ = {}, plan_ = {};
};

}  // namespace internvl
