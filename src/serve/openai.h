#pragma once
#include <string>

#include "api/data.h"
#include "base/json.h"
#include "serve/request_error.h"

namespace internvl {

// What holds where a request from a file does not say otherwise, and where its own files may lie.
struct FileDefaults {
    GenerateOptions generate;
    ImageOptions image;
    VideoOptions video;
    std::string folder;  // of relative paths and file: addresses
};

// A chat completion that is asked for by a file, with its pictures and videos loaded.
struct FileRequest {
    std::string model;
    Conversation conversation;
    bool return_token_ids = false;
};

// The body of a chat completion (api.md 1.2, 2) with media from data: addresses and files. What
// only the service can do is refused by name. Throws RequestError.
FileRequest parse_file_request(const nlohmann::json& body, const FileDefaults&);
// The same as a question without history; throws RequestError when there is more.
Dialogue to_question(const FileRequest&);

// What an answer says besides its text.
struct Envelope {
    std::string model, id;
    int64_t created;  // seconds since 1970
    bool token_ids;
};
nlohmann::ordered_json chat_completion(const Result&, const Envelope&);  // api.md 3.1

}  // namespace internvl
