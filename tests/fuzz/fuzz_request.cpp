// The body of a chat completion is understood or refused with a code.
#include "base/error.h"
#include "serve/openai.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace internvl;
    DialogueDefaults defaults;
    defaults.folder = "/nonexistent";
    try {
        const auto body = parse_json({reinterpret_cast<const char*>(data), size}, "input");
        const DialogueRequest r = parse_dialogue_request(body, defaults);
        if (r.dialogue.rounds.empty() || r.dialogue.rounds.back().answer) __builtin_trap();
    } catch (const RequestError& e) {
        if (e.code.empty() || error_body(e).empty()) __builtin_trap();
    } catch (const Error&) {  // not JSON
    }
    return 0;
}
