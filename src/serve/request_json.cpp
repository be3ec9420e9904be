#include <fmt/format.h>

#include "serve/chat_request.h"

namespace internvl {

using nlohmann::json;

namespace {

constexpr int most_levels = 64;
// More than any request needs; so bodies full of braces do not become gigabytes of objects.
constexpr int64_t most_keys = 100'000, most_values = 2'000'000;

[[noreturn]] void invalid(size_t byte, const std::string& what) {
    refuse("invalid_json", "", fmt::format("the body is not valid JSON: {} (byte {})", what, byte));
}

// Counts levels, keys and values before anything is built.
void check_size(std::string_view text) {
    int levels = 0;
    int64_t keys = 0, values = 0;
    bool in_string = false;
    for (size_t i = 0; i < text.size(); ++i) {
        const char c = text[i];
        if (in_string) {
            if (c == '\\')
                ++i;
            else if (c == '"')
                in_string = false;
            continue;
        }
        in_string = c == '"';
        if (c == '[' || c == '{') {
            if (++levels > most_levels)
                invalid(i, fmt::format("it is nested more than {} levels deep", most_levels));
        } else if (c == ']' || c == '}') {
            --levels;
        }
        if (c == ':' && ++keys > most_keys) invalid(i, fmt::format("more than {} keys", most_keys));
        if (c == ',' && ++values > most_values)
            invalid(i, fmt::format("more than {} values", most_values));
    }
}

// Builds the value that the parser tells of; of equal keys the last one holds.
class Builder {
  public:
    bool null() { return put(nullptr); }
    bool boolean(bool value) { return put(value); }
    bool number_integer(json::number_integer_t value) { return put(value); }
    bool number_unsigned(json::number_unsigned_t value) { return put(value); }
    bool number_float(json::number_float_t value, const std::string&) { return put(value); }
    bool string(std::string& value) { return put(std::move(value)); }
    bool binary(json::binary_t&) { return false; }
    bool start_object(size_t) { return open(json::object()); }
    bool start_array(size_t) { return open(json::array()); }
    bool end_object() { return close(); }
    bool end_array() { return close(); }
    bool key(std::string& name) {
        key_ = std::move(name);
        return true;
    }
    bool parse_error(size_t byte, const std::string&, const nlohmann::detail::exception& e) {
        byte_ = byte;
        out_of_range_ = e.id == 406;
        return false;
    }

    json root;
    size_t byte() const { return byte_; }
    bool out_of_range() const { return out_of_range_; }

  private:
    json* place(json&& value) {
        if (open_.empty()) return &(root = std::move(value));
        json& parent = *open_.back();
        if (parent.is_object()) return &(parent[key_] = std::move(value));
        parent.push_back(std::move(value));
        return &parent.back();
    }
    bool put(json&& value) {
        place(std::move(value));
        return true;
    }
    bool open(json&& value) {
        open_.push_back(place(std::move(value)));
        return true;
    }
    bool close() {
        open_.pop_back();
        return true;
    }

    std::vector<json*> open_;
    std::string key_;
    size_t byte_ = 0;
    bool out_of_range_ = false;
};

}  // namespace

json parse_request_json(std::string_view body) {
    check_size(body);
    Builder builder;
    if (!json::sax_parse(body.begin(), body.end(), &builder))
        invalid(builder.byte(), builder.out_of_range() ? "a number is out of range"
                                                       : "a syntax error, or text that is not "
                                                         "UTF-8");
    if (!builder.root.is_object())
        refuse("invalid_json", "", "the body must be a JSON object, found " + shown(builder.root));
    return std::move(builder.root);
}

}  // namespace internvl
