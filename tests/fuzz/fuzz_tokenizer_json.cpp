// A tokenizer.json that stands alone.
#include "base/error.h"
#include "exercise_tokenizer.h"

using namespace internvl;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const std::string file(reinterpret_cast<const char*>(data), size);
    try {
        exercise(Tokenizer::load(
            [&](const std::string& name) -> std::optional<std::string> {
                if (name == "tokenizer.json") return file;
                return std::nullopt;
            },
            "input"));
    } catch (const Error&) {
    }
    return 0;
}
