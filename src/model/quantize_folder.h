#pragma once
#include <functional>
#include <string>
#include <vector>

#include "io/folder.h"
#include "model/quantize.h"
#include "ops/context.h"

namespace internvl {

// A folder in the making: beside its place under another name until commit(), gone without it.
class StagedFolder {
  public:
    // Throws Error when the place is taken by anything but an empty folder.
    explicit StagedFolder(const std::string& place);
    ~StagedFolder();
    StagedFolder(const StagedFolder&) = delete;
    StagedFolder& operator=(const StagedFolder&) = delete;

    const std::string& path() const { return path_; }
    void commit();

  private:
    std::string place_, path_;
};

// How far a product's weights are from those that they stand for.
struct WeightError {
    std::string name;
    Role role;
    WeightFormat kept;
    double relative_rms;
};

struct QuantisedWeights {
    std::vector<WeightError> products;
    int64_t bytes_before = 0, bytes_after = 0;  // of all tensors
};

// Writes a model in fewer bits into `to` (docs/quantized_folders.md): its weights tensor by tensor,
// its configuration with what was done, its other files as they are. `on_product` hears of every
// product. Throws Error, before anything is written when the disk has no room.
QuantisedWeights quantise_folder(Context&, const ModelFolder& from, const QuantPolicy&,
                                 const std::string& to,
                                 const std::function<void(const WeightError&)>& on_product = {});

}  // namespace internvl
