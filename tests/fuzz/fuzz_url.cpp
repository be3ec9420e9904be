// Any text as a web address: what is read reads the same again, and so does where it leads.
#include <cstdint>
#include <cstdlib>

#include "io/url.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    using namespace internvl;
    const std::string_view text(reinterpret_cast<const char*>(data), size);
    const auto check = [](const std::optional<Url>& url) {
        if (!url) return;
        const std::string again = url->text();
        for (const char c : again)
            if (c <= ' ' || c == '\\' || c == '\x7F') std::abort();
        const auto second = Url::parse(again);
        // Escaping may have made it longer than what is read.
        if (!second && again.size() <= longest_url) std::abort();
        if (second && (second->text() != again || second->host != url->host)) std::abort();
    };
    check(Url::parse(text));
    check(follow(Url::parse("https://a.example:8443/b/c?d").value(), text));
    if (const auto block = AddressBlock::parse(text))
        if (!block->contains(block->base)) std::abort();
    return 0;
}
