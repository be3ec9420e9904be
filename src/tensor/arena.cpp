#include "tensor/arena.h"

#include <sys/mman.h>

#include <algorithm>
#include <iterator>
#include <map>
#include <new>

namespace internvl {

std::shared_ptr<void> map_memory(size_t bytes) {
    constexpr size_t huge = size_t(2) << 20;
    const size_t span = (std::max<size_t>(bytes, 1) + huge - 1) / huge * huge + huge;
    void* base = mmap(nullptr, span, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) throw std::bad_alloc();
    void* aligned =
        reinterpret_cast<void*>((reinterpret_cast<uintptr_t>(base) + huge - 1) / huge * huge);
    madvise(aligned, span - huge, MADV_HUGEPAGE);
    return {aligned, [base, span](void*) { munmap(base, span); }};
}

struct Arena::Store {
    std::multimap<size_t, std::shared_ptr<void>> idle;
    size_t held = 0;

    std::shared_ptr<void> take(size_t bytes) {
        const auto found = idle.lower_bound(bytes);
        // A block half again as large as needed would starve the request that fits it.
        if (found == idle.end() || found->first > bytes + bytes / 2) return nullptr;
        auto block = std::move(found->second);
        idle.erase(found);
        return block;
    }
};

Arena::Arena() : store_(std::make_shared<Store>()) {}

Tensor Arena::get(DType dtype, std::initializer_list<int64_t> shape) {
    View view(nullptr, dtype, shape);
    constexpr size_t page = 4096, mapped_from = size_t(1) << 20;
    const size_t bytes = (std::max<size_t>(view.bytes(), 1) + page - 1) / page * page;
    std::shared_ptr<void> block = store_->take(bytes);
    if (!block) {
        block = bytes >= mapped_from ? map_memory(bytes)
                                     : make_tensor(DType::u8, {int64_t(bytes)}).owner;
        store_->held += bytes;
    }
    view.data = block.get();
    // The deleter keeps the block and its size, and hands it back when the tensor dies.
    auto give_back = [store = store_, block, bytes](void*) mutable {
        store->idle.emplace(bytes, std::move(block));
    };
    return {view, std::shared_ptr<void>(view.data, std::move(give_back))};
}

int64_t Arena::held_bytes() const {
    return int64_t(store_->held);
}

void Arena::trim() {
    for (const auto& [bytes, block] : store_->idle) store_->held -= bytes;
    store_->idle.clear();
}

}  // namespace internvl
