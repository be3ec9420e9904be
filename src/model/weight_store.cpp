#include "model/weight_store.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include "tensor/arena.h"

namespace internvl {

WeightStore::WeightStore(int64_t most_bytes)
    : memory_(map_memory(size_t(most_bytes) + sizeof(SealedHead))),
      filled_(false),
      bytes_(most_bytes + int64_t(sizeof(SealedHead))) {}

static std::shared_ptr<void> contents(MappedFile file) {
    const auto keeper = std::make_shared<MappedFile>(std::move(file));
    return {keeper, const_cast<std::byte*>(keeper->bytes().data())};
}

WeightStore::WeightStore(MappedFile file, const SealedHead& head)
    : memory_(contents(std::move(file))), filled_(true), bytes_(head.bytes), expected_(head.plan) {}

std::shared_ptr<void> WeightStore::take(const std::string& what, int64_t bytes) {
    plan_ = Digest()
                .update(plan_.data(), plan_.size())
                .update(what.c_str(), what.size() + 1)
                .update(&bytes, sizeof bytes)
                .key();
    const int64_t at = used_, room = (bytes + 63) / 64 * 64;
    if (room > bytes_ - at) {  // nobody is to use it: complete()
        fits_ = false;
        return map_memory(size_t(room));
    }
    used_ += room;
    return {memory_, static_cast<std::byte*>(memory_.get()) + at};
}

Tensor WeightStore::take(const std::string& name, DType dtype,
                         std::initializer_list<int64_t> shape) {
    View view(nullptr, dtype, shape);
    const std::string what =
        fmt::format("{} {} {}", name, dtype_name(dtype), fmt::join(shape, " "));
    std::shared_ptr<void> place = take(what, view.bytes());
    view.data = place.get();
    return {view, std::move(place)};
}

bool WeightStore::complete() const {
    return fits_ && filled_ && used_ == bytes_ && plan_ == expected_;
}

SealedHead WeightStore::head(const DigestKey& identity) const {
    SealedHead head;
    head.bytes = used_;
    head.identity = identity;
    head.plan = plan_;
    return head;
}

}  // namespace internvl
