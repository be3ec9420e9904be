#include "text/clean_up.h"

#include <algorithm>

namespace internvl {

struct Replacement {
    std::string_view from, to;
};
// Every pattern begins with a blank, and a match cut short can begin anew only with a blank.
static constexpr Replacement replacements[CleanUp::stages] = {
    {" .", "."},     {" ?", "?"},   {" !", "!"},   {" ,", ","},     {" ' ", "'"},
    {" n't", "n't"}, {" 'm", "'m"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};

// What a stage holds will not become its pattern: it goes on to the next one.
void CleanUp::pass_on(size_t stage, std::string& out) {
    const size_t held = matched_[stage];
    matched_[stage] = 0;
    for (size_t i = 0; i < held; ++i) put(stage + 1, replacements[stage].from[i], out);
}

void CleanUp::put(size_t stage, char c, std::string& out) {
    if (stage == stages) {
        out += c;
        return;
    }
    const auto& [from, to] = replacements[stage];
    if (c != from[matched_[stage]]) pass_on(stage, out);
    if (c != from[matched_[stage]]) return put(stage + 1, c, out);
    if (++matched_[stage] < from.size()) return;
    matched_[stage] = 0;
    for (const char replaced : to) put(stage + 1, replaced, out);
}

std::string CleanUp::push(std::string_view text) {
    std::string out;
    for (size_t at = 0; at < text.size();) {
        if (std::ranges::all_of(matched_, [](uint8_t m) { return m == 0; })) {
            const size_t blank = std::min(text.find(' ', at), text.size());
            out += text.substr(at, blank - at);
            at = blank;
            if (at == text.size()) break;
        }
        put(0, text[at++], out);
    }
    return out;
}

std::string CleanUp::finish() {
    std::string out;
    for (size_t stage = 0; stage < stages; ++stage) pass_on(stage, out);
    return out;
}

}  // namespace internvl
