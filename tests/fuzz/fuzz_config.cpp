// A configuration that is accepted has sizes that can be computed with.
#include "base/error.h"
#include "model/tensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace internvl;
    try {
        const ModelConfig c = parse_config({reinterpret_cast<const char*>(data), size}, "input");
        if (count_parameters(c).total <= 0) __builtin_trap();
    } catch (const Error&) {
    }
    return 0;
}
