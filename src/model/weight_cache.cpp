#include "model/weight_cache.h"

#include <fmt/format.h>

#include <filesystem>

#include "base/error.h"
#include "base/log.h"
#include "model/identity.h"

namespace internvl {

// The same for the same folder after its weights have changed: what was kept of them is replaced.
static std::string file_name(const Context& ctx, const Checkpoint& checkpoint,
                             const ComputeTypes& types) {
    std::error_code error;
    std::string where = std::filesystem::weakly_canonical(checkpoint.where(), error).string();
    if (error) where = checkpoint.where();
    const std::string what =
        fmt::format("{}\n{} {}\n{}\n{} {}", where, isa_name(ctx.kernels.isa), types.name(),
                    types.quant.text(), types.outliers_from, types.left_alone);
    return sha256_hex(what.data(), what.size()) + ".weights";
}

static std::optional<MappedFile> open(const std::string& path) {
    std::error_code error;
    if (!std::filesystem::exists(path, error)) return std::nullopt;
    try {
        return MappedFile::open(path);
    } catch (const Error& e) {
        log_info("{}", e.what());
        return std::nullopt;
    }
}

std::optional<WeightStore> WeightCache::find(Context& ctx, const Checkpoint& checkpoint,
                                             const ComputeTypes& types) {
    identity_ = weights_identity(ctx, checkpoint, types);
    path_ = folder_ + "/" + file_name(ctx, checkpoint, types);
    found_ = false;
    std::optional<MappedFile> file = open(path_);
    if (!file) return std::nullopt;
    const auto head = read_head(file->bytes());
    if (head && head->identity != identity_) {
        log_info("packed weights of other files, which are replaced: {}", path_);
        return std::nullopt;
    }
    file->use_large_pages();
    if (!head || !is_whole(file->bytes(), *head, ctx.pool)) {
        log_info("damaged packed weights, which are replaced: {}", path_);
        return std::nullopt;
    }
    found_ = true;
    return WeightStore(std::move(*file), *head);
}

void WeightCache::keep(const Context& ctx, const WeightStore& store) {
    found_ = false;
    writer_ =
        std::make_unique<SealedWriter>(path_, store.head(identity_), store.memory(), ctx.cancel);
}

}  // namespace internvl
