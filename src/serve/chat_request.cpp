#include "serve/chat_request.h"

#include <algorithm>

namespace internvl {

RequestDefaults service_defaults() {
    RequestDefaults d;
    d.generate.do_sample = true;
    d.generate.temperature = 0.7f;
    d.generate.top_k = 40;
    d.generate.penalise_start = false;  // the penalties count generated tokens alone
    return d;
}

std::string ignored_header(const std::vector<std::string>& ignored) {
    std::string header;
    size_t count = 0;
    for (const std::string& name : ignored) {
        if (++count > 10) break;
        std::string safe = name.substr(0, 64);
        std::erase_if(safe, [](char c) {
            return !(std::isalnum(uint8_t(c)) || c == '_' || c == '.' || c == '-');
        });
        if (safe.empty()) continue;
        header += (header.empty() ? "" : ", ") + safe;
    }
    return header;
}

}  // namespace internvl
