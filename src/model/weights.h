#pragma once
#include <functional>
#include <initializer_list>
#include <optional>
#include <string>
#include <vector>

#include "io/checkpoint.h"
#include "model/families.h"
#include "model/filed_codes.h"
#include "model/internvl.h"
#include "model/weight_store.h"
#include "ops/ops.h"

namespace internvl {

// Turns tensors of a checkpoint into the forms that the operations want. Each file tensor is read
// once and its pages are let go, so that memory holds one copy; none is read whose form is in the
// store already.
class WeightLoader {
  public:
    // `filed`: what the checkpoint keeps in fewer bits; its other weights of those parts stay
    // plain. `store`: absent, memory. `on_share`: hears of the files' bytes how many were packed.
    WeightLoader(Context&, Checkpoint&, const ComputeTypes&, const QuantPolicy& filed = {},
                 std::optional<WeightStore> store = {}, std::function<void(double)> on_share = {});

    Linear linear(const LinearNames&, Role);  // one block per tensor
    // [out, in] as filed, an adapter merged.
    Tensor weight(const std::string& name) const;
    Norm norm(const NormNames&, float epsilon);  // none for no names
    Tensor vector(const std::string& name);      // f32, one dimension
    // Any shape of the file, converted to activations, as [rows, width].
    Tensor activations(const std::string& name, int64_t rows, int64_t width);
    // The sum of two tensors' first rows, as activations: [1, width].
    Tensor sum(const std::string& a, const std::string& b, int64_t width);
    // As filed, in place: [rows, width] over the mapped file.
    Tensor table(const std::string& name);

    const WeightStore& store() const { return store_; }

  private:
    Tensor read(const TensorEntry&, int64_t rows, int64_t width) const;
    const TensorEntry& entry(const std::string& name) const;
    DType common_type(const LinearNames&) const;
    Block block(const std::string& name, Role, DType);
    void pack(Block&, const FiledCodes&);
    void let_go(const TensorEntry&);

    Context& ctx_;
    Checkpoint& checkpoint_;
    ComputeTypes types_;
    QuantPolicy filed_;
    WeightStore store_;
    std::function<void(double)> on_share_;
    size_t packed_ = 0, all_ = 0;  // bytes of the files
};

}  // namespace internvl
