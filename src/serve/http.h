#pragma once
#include <chrono>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace internvl {

using Clock = std::chrono::steady_clock;
using Headers = std::vector<std::pair<std::string, std::string>>;

bool equal_ignoring_case(std::string_view, std::string_view);

// The first line and the headers of a request, and what is known of who sent it.
struct RequestHead {
    std::string method, target;
    std::string path, query;  // the path without percent escapes, the query as it came
    Headers headers;
    std::string peer;             // address of the client, "" on a unix socket
    int64_t content_length = -1;  // -1: not told
    bool has_body = false;        // a length above 0, or chunks
    bool http_1_0 = false;
    int door = 0;  // which listener it came through

    // The first header of that name, "" when there is none.
    std::string_view header(std::string_view name) const;
    bool has(std::string_view name) const;
};

// "/a%2Fb?c=d" to path "/a/b" and query "c=d"; false for broken escapes or no leading slash.
bool split_target(RequestHead&);
std::string unescape_url(std::string_view, bool plus_is_space);
// Names and values of a query, unescaped.
std::vector<std::pair<std::string, std::string>> query_pairs(std::string_view query);

struct HttpResponse {
    int status = 200;
    std::string body = {};
    std::string type = "application/json";
    Headers headers = {};
    bool close = false;  // the connection ends after it
};

const char* reason_phrase(int status);
// A client's request id when it may be used, else "".
std::string_view usable_request_id(std::string_view);
std::string random_id(int digits);  // lower-case hexadecimal digits that nobody can foresee

}  // namespace internvl
