// A configuration that is accepted has sizes that can be computed with.
#include "base/error.h"
#include "model/filed_codes.h"
#include "model/memory.h"
#include "model/tensors.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace internvl;
    try {
        const ModelConfig c = parse_config({reinterpret_cast<const char*>(data), size}, "input");
        if (count_parameters(c).total <= 0) __builtin_trap();
        if (weight_bytes(c, {DType::bf16, DType::bf16, c.quant.parts}) <= 0) __builtin_trap();
        for (const TensorSpec& spec : expected_tensors(c))
            for (const TensorPlan& t : code_tensors(spec, c.quant.parts))
                for (const int64_t d : t.shape)
                    if (d < 0) __builtin_trap();
    } catch (const Error&) {
    }
    return 0;
}
