#include "serve/openapi.h"

#include <cmath>

#include "serve/fields.h"

namespace internvl {

using Json = nlohmann::ordered_json;

namespace {

// Every route (api.md 1.1). `body`: the endpoint whose fields it takes, 0 for none.
struct Route {
    const char* path;
    const char* method;
    const char* summary;
    bool key;
    unsigned body = 0;
    const char* type = "application/json";  // of the answer
};
constexpr Route routes[] = {
    {"/v1/models", "get", "The models that are served", true},
    {"/v1/models/{id}", "get", "One model; the id may hold slashes", true},
    {"/v1/chat/completions", "post", "An answer about text, pictures and videos", true,
     Field::chat},
    {"/v1/completions", "post", "What follows a text", true, Field::completions},
    {"/v1/chat/completions/input_tokens", "post", "Tokens and tiles of a chat, without an answer",
     true, Field::estimate},
    {"/v1/estimate", "get", "Tiles and tokens of a picture by its size", true},
    {"/v1/estimate", "post", "Tiles, tokens and time of pictures, videos or a chat", true,
     Field::estimate},
    {"/tokenize", "post", "The ids of a text or a chat", true, Field::tokenize},
    {"/detokenize", "post", "The text of ids", true, Field::detokenize},
    {"/health", "get", "Whether it runs and takes requests", false},
    {"/livez", "get", "Whether it runs", false},
    {"/readyz", "get", "Whether it takes requests", false},
    {"/metrics", "get", "Counters for Prometheus", true, 0, "text/plain"},
    {"/version", "get", "Version, commit and model", false},
    {"/", "get", "The page to chat with", false, 0, "text/html"},
    {"/assets/{name}", "get", "What the page consists of", false, 0, "application/octet-stream"},
    {"/docs", "get", "The service in words", false, 0, "text/html"},
    {"/openapi.json", "get", "This document", false},
};

Json type_of(unsigned kinds) {
    Json names = Json::array();
    const std::pair<unsigned, const char*> all[] = {
        {Field::text, "string"},  {Field::integer, "integer"}, {Field::number, "number"},
        {Field::flag, "boolean"}, {Field::list, "array"},      {Field::object, "object"}};
    for (const auto& [kind, name] : all)
        if (kinds & kind) names.push_back(name);
    return names.size() == 1 ? names[0] : names;
}

// Whole numbers without a point.
Json as_number(double x) {
    if (std::floor(x) == x && std::fabs(x) < 1e15) return int64_t(x);
    return std::round(x * 1e6) / 1e6;
}

void add_bounds(const Field& f, const RequestLimits& limits, Json& schema) {
    const double low = f.low, high = f.highest(limits);
    const bool counts = f.kinds & (Field::integer | Field::number);
    const char* least = counts                    ? (f.above_low ? "exclusiveMinimum" : "minimum")
                        : (f.kinds & Field::text) ? "minLength"
                        : (f.kinds & Field::list) ? "minItems"
                                                  : "minProperties";
    const char* most = counts                    ? "maximum"
                       : (f.kinds & Field::text) ? "maxLength"
                       : (f.kinds & Field::list) ? "maxItems"
                                                 : "maxProperties";
    if (low > -1e300) schema[least] = as_number(low);
    if (high < 1e300) schema[most] = as_number(high);
}

// What holds where a request says nothing, as far as the service decides it.
Json service_default(std::string_view name, const RequestDefaults& d) {
    const GenerateOptions& g = d.generate;
    if (name == "temperature") return as_number(g.do_sample ? double(g.temperature) : 0);
    if (name == "top_p") return as_number(double(g.top_p));
    if (name == "top_k") return g.top_k;
    return {};
}

Json schema_of(const Field& f, const RequestDefaults& defaults) {
    if (f.action == Field::Action::refused) {
        Json taken = Json::parse(*f.words ? f.words : "[]");
        taken.push_back(nullptr);
        return {{"description", "Not supported; other values are refused."}, {"enum", taken}};
    }
    Json schema = {{"type", type_of(f.kinds)}};
    if (*f.words) schema["enum"] = Json::parse(f.words);
    add_bounds(f, defaults.limits, schema);
    if (*f.inside) schema.update(Json::parse(f.inside));
    Json standard = *f.standard ? Json::parse(f.standard) : service_default(f.name, defaults);
    if (!standard.is_null()) schema["default"] = standard;
    std::string note = f.note;
    if (f.action == Field::Action::ignored) note = "Accepted, without effect.";
    if (!note.empty()) schema["description"] = note;
    return schema;
}

Json body_of(unsigned endpoint, const RequestDefaults& defaults) {
    Json properties = Json::object(), required = Json::array();
    for (const Field& f : request_fields()) {
        if (!(f.endpoints & endpoint)) continue;
        properties[f.name] = schema_of(f, defaults);
        if (f.required) required.push_back(f.name);
    }
    Json schema = {{"type", "object"}, {"properties", std::move(properties)}};
    if (!required.empty()) schema["required"] = std::move(required);
    return {{"required", true}, {"content", {{"application/json", {{"schema", schema}}}}}};
}

Json parameter(const char* name, const char* in, bool required, const char* type) {
    return {{"name", name}, {"in", in}, {"required", required}, {"schema", {{"type", type}}}};
}

Json parameters_of(const Route& r) {
    const std::string_view path = r.path;
    if (path == "/v1/models/{id}") return Json::array({parameter("id", "path", true, "string")});
    if (path == "/assets/{name}") return Json::array({parameter("name", "path", true, "string")});
    if (path != "/v1/estimate" || r.body) return {};
    return Json::array({parameter("width", "query", true, "integer"),
                        parameter("height", "query", true, "integer"),
                        parameter("max_num", "query", false, "integer"),
                        parameter("min_num", "query", false, "integer"),
                        parameter("use_thumbnail", "query", false, "boolean"),
                        parameter("detail", "query", false, "string")});
}

Json operation(const Route& r, const RequestDefaults& defaults) {
    Json answers = Json::object();
    answers["200"] = {{"description", "The answer"},
                      {"content", {{r.type, {{"schema", Json::object()}}}}}};
    if (r.body == Field::chat || r.body == Field::completions)
        answers["200"]["content"]["text/event-stream"] = {{"schema", {{"type", "string"}}}};
    answers["default"] = {
        {"description", "An error"},
        {"content",
         {{"application/json", {{"schema", {{"$ref", "#/components/schemas/Error"}}}}}}}};
    Json op = {{"summary", r.summary}};
    if (Json parameters = parameters_of(r); !parameters.is_null()) op["parameters"] = parameters;
    if (r.body) op["requestBody"] = body_of(r.body, defaults);
    op["responses"] = std::move(answers);
    if (!r.key) op["security"] = Json::array();
    return op;
}

Json error_schema() {
    const Json text = {{"type", "string"}}, maybe = {{"type", {"string", "null"}}};
    const Json error = {
        {"type", "object"},
        {"required", {"message", "type", "param", "code"}},
        {"properties", {{"message", text}, {"type", text}, {"param", maybe}, {"code", text}}}};
    return {{"type", "object"},
            {"required", Json::array({"error"})},
            {"properties", {{"error", error}}}};
}

}  // namespace

Json openapi_document(const RequestDefaults& defaults, const std::string& version) {
    Json paths = Json::object();
    for (const Route& r : routes) paths[r.path][r.method] = operation(r, defaults);
    return {{"openapi", "3.1.0"},
            {"info",
             {{"title", "internvl serve"},
              {"version", version},
              {"description", "InternVL2 models behind the interface of OpenAI's clients."}}},
            {"paths", std::move(paths)},
            {"components",
             {{"schemas", {{"Error", error_schema()}}},
              {"securitySchemes", {{"key", {{"type", "http"}, {"scheme", "bearer"}}}}}}},
            {"security", Json::array({{{"key", Json::array()}}})}};
}

}  // namespace internvl
