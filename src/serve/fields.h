#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "serve/chat_request.h"

namespace internvl {

// The table of all fields that requests have (api.md 1.2, 1.3, 1.5, 1.6). The parser and the
// OpenAPI document read it.
struct Field {
    enum Kind : unsigned { text = 1, integer = 2, number = 4, flag = 8, list = 16, object = 32 };
    enum Endpoint : unsigned {
        chat = 1,
        completions = 2,
        tokenize = 4,
        detokenize = 8,
        estimate = 16
    };
    enum class Action { honoured, ignored, refused };

    const char* name;
    unsigned endpoints;
    unsigned kinds;  // one of them; those of a refused field do not matter
    Action action = Action::honoured;
    bool required = false;
    // Bounds: of a number its value, of a text its bytes, of a list or object its entries.
    double low = -1e300, high = 1e300;
    bool above_low = false;                  // `low` itself is too little
    int64_t RequestLimits::*most = nullptr;  // in place of `high`
    const char* words = "";                  // JSON list: values that are taken, no others
    const char* standard = "";               // JSON: what holds when it is absent
    const char* inside = "";                 // JSON schema of what it holds
    const char* note = "";
    double highest(const RequestLimits&) const;
};
std::span<const Field> request_fields();

// Checks a body against the table: types, bounds, fields that are refused. Names that the table
// does not know are added to `ignored`, or refused under strict_fields. Throws RequestError.
void check_fields(const nlohmann::json& body, Field::Endpoint, const RequestLimits&,
                  std::vector<std::string>& ignored);

// Reads the fields of one object. Absent and null are the same; nothing is converted. Throws
// RequestError with the field's place, `at` + name.
class FieldReader {
  public:
    FieldReader(const nlohmann::json& object, std::string at)
        : object_(object), at_(std::move(at)) {}

    const nlohmann::json* find(const char* name) const;  // null: absent
    bool has(const char* name) const { return find(name) != nullptr; }
    std::string place(const char* name) const { return at_ + name; }

    // True, and `out` is set, when the field is there; within [low, high].
    bool integer(const char* name, int64_t low, int64_t high, int64_t& out) const;
    bool integer(const char* name, int64_t low, int64_t high, int& out) const;
    // `above_low`: more than `low`.
    bool number(const char* name, double low, double high, double& out,
                bool above_low = false) const;
    bool number(const char* name, double low, double high, float& out,
                bool above_low = false) const;
    bool flag(const char* name, bool& out) const;
    bool text(const char* name, std::string& out) const;
    // Names beside `known`: added to `ignored`, refused when `strict`.
    void unknown(std::span<const char* const> known, bool strict,
                 std::vector<std::string>& ignored) const;

  private:
    [[noreturn]] void wrong_type(const char* name, const char* expected) const;
    const nlohmann::json& object_;
    std::string at_;
};

}  // namespace internvl
