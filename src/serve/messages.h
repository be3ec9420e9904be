#pragma once
#include "serve/fields.h"

namespace internvl {

// The messages of a chat with their pictures and videos (api.md 2.1, 2.2) into `request`, and what
// the other fields say about them (2.3, 2.5). `body` has passed check_fields. Throws RequestError.
void parse_messages(const nlohmann::json& body, const RequestDefaults&, ChatRequest& request,
                    std::vector<std::string>& ignored);

}  // namespace internvl
