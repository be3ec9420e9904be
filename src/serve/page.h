#pragma once
#include <optional>
#include <string>

#include "base/json.h"
#include "serve/http.h"
#include "serve/settings.h"

namespace internvl {
std::optional<HttpResponse> page_file(const std::string& path);
std::string docs_page(Settings);
nlohmann::ordered_json openapi(const std::string& version);
}
