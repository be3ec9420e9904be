// A SentencePiece model, loaded as each of the three classes that use one.
#include "base/error.h"
#include "exercise_tokenizer.h"

using namespace internvl;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    static const char* const configurations[] = {
        R"({"tokenizer_class": "InternLM2Tokenizer", "additional_special_tokens": ["<img>"]})",
        R"({"tokenizer_class": "LlamaTokenizer", "legacy": true, "bos_token": "<s>"})",
        R"({"tokenizer_class": "LlamaTokenizer", "legacy": false, "added_tokens_decoder":
            {"3": {"content": "<|end|>", "rstrip": true, "lstrip": true, "special": true}}})",
    };
    const std::string model(reinterpret_cast<const char*>(data), size);
    try {
        exercise(Tokenizer::load(
            [&](const std::string& name) -> std::optional<std::string> {
                if (name == "tokenizer.model") return model;
                if (name == "tokenizer_config.json") return configurations[size % 3];
                return std::nullopt;
            },
            "input"));
    } catch (const Error&) {
    }
    return 0;
}
