// What stands in the head of a request, and the lines of a file of keys.
#include <cstdint>
#include <string>

#include "base/error.h"
#include "serve/auth.h"

using namespace internvl;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    const std::string text(reinterpret_cast<const char*>(data), size);
    RequestHead head;
    head.target = text;
    if (split_target(head) && !head.path.starts_with('/')) __builtin_trap();
    for (const auto& [name, value] : query_pairs(text))
        if (name.size() + value.size() > size) __builtin_trap();
    if (host_name(text).size() > size) __builtin_trap();
    if (usable_request_id(text).find('\n') != std::string::npos) __builtin_trap();
    head.peer = "10.0.0.1";
    head.headers = {{"x-forwarded-for", text}};
    client_address(head, {Network::parse("10.0.0.0/8")});
    try {
        KeyRing ring;
        ring.add_list(text, {});
        ring.find("Bearer " + text);
    } catch (const Error&) {
    }
    try {
        Network::parse(text).contains("10.0.0.1");
    } catch (const Error&) {
    }
    return 0;
}
