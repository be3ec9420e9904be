#pragma once
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace internvl {

// A prompt format (spec 6.1): prefix + system + separator, then role + text + separator for each
// message; a message without text is its role alone.
struct ChatTemplate {
    std::string name;
    std::string system_prefix;
    std::string user, assistant;
    std::string separator;
    std::string stop;  // the token that ends an answer: the separator without white space
    std::string default_system;
};

const ChatTemplate& find_template(
    const std::string& name);  // throws Error that lists the known ones

// A question and its answer, none yet for the last one.
struct Turn {
    std::string question;
    std::optional<std::string> answer;
};

std::string render(const ChatTemplate&, const std::string& system, std::span<const Turn>);

// Replaces the first remaining <image> by <img><IMG_CONTEXT>...</img> for each entry of `tiles`,
// wherever in the string it stands (spec 6.2 step 4).
std::string expand_images(std::string prompt, std::span<const int> tiles, int tokens_per_tile);

// One picture in a prompt: <img>, tiles * tokens_per_tile context tokens, </img>.
std::string picture_tokens(int tiles, int tokens_per_tile);

}  // namespace internvl
