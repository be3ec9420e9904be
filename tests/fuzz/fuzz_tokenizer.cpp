// The first byte says what the rest is: one of the tokenizer's files, a text to encode, or ids to
// decode.
#include <cstring>

#include "base/error.h"
#include "io/folder.h"
#include "text/stream_decoder.h"
#include "text/utf8.h"

using namespace internvl;

static const ModelFolder folder = ModelFolder::builtin("demo");
static const char* const files[] = {"vocab.json", "merges.txt", "added_tokens.json",
                                    "tokenizer_config.json"};

static void check_text(const std::string& text) {
    static const Tokenizer t =
        Tokenizer::load([](const std::string& name) { return folder.read(name); }, "demo");
    for (const auto& ids : {t.encode(text), t.encode_plain(text)})
        if (!is_valid_utf8(t.decode(ids, false))) __builtin_trap();
}

static void check_ids(const std::string& bytes) {
    static const Tokenizer t =
        Tokenizer::load([](const std::string& name) { return folder.read(name); }, "demo");
    std::vector<int> ids(bytes.size() / sizeof(int16_t));
    for (size_t i = 0; i < ids.size(); ++i) {
        int16_t id;
        std::memcpy(&id, bytes.data() + 2 * i, 2);
        ids[i] = id;
    }
    StreamDecoder stream(t, true);
    std::string streamed;
    for (const int id : ids) streamed += stream.push(id);
    if (streamed + stream.finish() != t.decode(ids, true)) __builtin_trap();
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    if (size == 0) return 0;
    const std::string rest(reinterpret_cast<const char*>(data) + 1, size - 1);
    const unsigned what = data[0] % 6;
    try {
        if (what == 4)
            check_text(rest);
        else if (what == 5)
            check_ids(rest);
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
