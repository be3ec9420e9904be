// Whatever a file holds, reading its header ends in tensors that lie inside it, or in an Error.
#include "base/error.h"
#include "io/safetensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace internvl;
    try {
        const std::span<const std::byte> file(reinterpret_cast<const std::byte*>(data), size);
        for (const TensorEntry& e : parse_safetensors(file, "input").entries)
            if (!e.bytes.empty() && (e.bytes.data() < file.data() ||
                                     e.bytes.data() + e.bytes.size() > file.data() + size))
                __builtin_trap();
    } catch (const Error&) {
    }
    return 0;
}
