#pragma once
#include "serve/chat_request.h"

namespace internvl {

// The service in OpenAPI 3.1: every route, and the fields of requests from the table that the
// parser reads (serve/fields.h).
nlohmann::ordered_json openapi_document(const RequestDefaults&, const std::string& version);

}  // namespace internvl
