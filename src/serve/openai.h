#pragma once
#include <string>

#include "base/json.h"
#include "internvl/internvl.h"
#include "serve/request_error.h"

namespace internvl {

// What holds where a request does not say otherwise, and where its files may lie.
struct DialogueDefaults {
    GenerateOptions generate;
    ImageOptions image;
    VideoOptions video;
    std::string folder;  // of relative paths and file: addresses
};

struct DialogueRequest {
    std::string model;
    Dialogue dialogue;
    bool return_token_ids = false;
};

// The body of a chat completion (api.md 1.2, 2): messages with text, pictures and videos from data:
// addresses and files. What would change the answer and is not supported is refused by name. Throws
// RequestError.
DialogueRequest parse_dialogue_request(const nlohmann::json& body, const DialogueDefaults&);

// What an answer says besides its text.
struct Envelope {
    std::string model, id;
    int64_t created;  // seconds since 1970
    bool token_ids;
};
nlohmann::ordered_json chat_completion(const Result&, const Envelope&);  // api.md 3.1

}  // namespace internvl
