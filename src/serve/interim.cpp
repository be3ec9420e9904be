// Text and data: pictures through the step loop, until the parts of the service are joined.
#include "serve/interim.h"

#include "base/error.h"
#include "serve/request_error.h"

namespace internvl {
nlohmann::json parse_request_json(std::string_view body) {
    try {
        nlohmann::json j = parse_json(body, "body");
        if (!j.is_object()) throw Error("not an object");
        return j;
    } catch (const Error& e) {
        throw RequestError("invalid_json", "", e.what());
    }
}
}  // namespace internvl
