// The first byte says what the rest is: one of the tokenizer's files, a text to encode, or ids to
// decode.
#include <cstring>

#include "base/error.h"
#include "exercise_tokenizer.h"
#include "io/folder.h"

using namespace internvl;

static const ModelFolder folder = ModelFolder::builtin("demo");
static const char* const files[] = {"vocab.json", "merges.txt", "added_tokens.json",
                                    "tokenizer_config.json"};

static const Tokenizer& demo() {
    static const Tokenizer t =
        Tokenizer::load([](const std::string& name) { return folder.read(name); }, "demo");
    return t;
}

static std::vector<int> ids_in(const std::string& bytes) {
    std::vector<int> ids(bytes.size() / sizeof(int16_t));
    for (size_t i = 0; i < ids.size(); ++i) {
        int16_t id;
        std::memcpy(&id, bytes.data() + 2 * i, 2);
        ids[i] = id;
    }
    return ids;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size == 0) return 0;
    const std::string rest(reinterpret_cast<const char*>(data) + 1, size - 1);
    const unsigned what = data[0] % 6;
    try {
        if (what == 4)
            exercise_text(demo(), rest);
        else if (what == 5)
            exercise_ids(demo(), ids_in(rest));
        else
            Tokenizer::load(
                [&](const std::string& name) {
                    return name == files[what] ? rest : folder.read(name);
                },
                "input");
    } catch (const Error&) {
    }
    return 0;
}
