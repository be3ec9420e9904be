#pragma once
#include <memory>
#include <optional>
#include <string>

#include "io/checkpoint.h"
#include "io/sealed_writer.h"
#include "model/internvl.h"
#include "model/weight_store.h"

namespace internvl {

// Packed weights in a folder, for other runs of the program: a file for each folder of a model and
// each way to keep its weights, mapped and used in place. (Read into memory of our own, weights
// would be there twice, beside the file's pages, and take 0.5 to 4 s to come in place of 0.2 s; and
// large pages of the file serve the products as well, see sealed_writer.cpp.) A file that is not
// exactly what it should be counts as none and is replaced.
class WeightCache {
  public:
    explicit WeightCache(std::string folder) : folder_(std::move(folder)) {}

    // What another run kept of this checkpoint, or nothing.
    std::optional<WeightStore> find(Context&, const Checkpoint&, const ComputeTypes&);
    // Keeps what was packed after find() found nothing of use, in the background.
    void keep(const Context&, const WeightStore&);
    bool found() const { return found_; }

  private:
    std::string folder_, path_;
    DigestKey identity_ = {};
    bool found_ = false;
    std::unique_ptr<SealedWriter> writer_;
};

}  // namespace internvl
