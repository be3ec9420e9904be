#include "base/json.h"

#include <unordered_set>
#include <vector>

#include "base/error.h"

namespace internvl {

nlohmann::json parse_json(std::string_view text, const std::string& where) {
    using nlohmann::json;
    constexpr int deepest = 64;
    std::vector<std::unordered_set<std::string>> keys;  // of the open objects
    const auto check = [&](int depth, json::parse_event_t event, json& value) {
        if (depth >= deepest)
            throw Error("JSON is nested too deeply", "at most 64 levels", "", where);
        if (event == json::parse_event_t::object_start) keys.emplace_back();
        if (event == json::parse_event_t::object_end) keys.pop_back();
        if (event == json::parse_event_t::key &&
            !keys.back().insert(value.get<std::string>()).second)
            throw Error("a key stands twice in one JSON object", "", value.get<std::string>(),
                        where);
        return true;
    };
    try {
        return json::parse(text.begin(), text.end(), check);
    } catch (const json::exception& e) {
        throw Error(std::string("not valid JSON: ") + e.what(), "", "", where);
    }
}

}  // namespace internvl
