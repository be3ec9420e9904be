#pragma once
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace internvl {

constexpr int tokens_per_tile = 256;

// A prompt as the model reads it. The prompt builder is the only place that knows how many tokens a
// picture takes.
struct Prompt {
    std::string text;  // with every <IMG_CONTEXT> written out
    std::vector<int> ids;
};

// A picture's place in a prompt; a frame of a video counts from 1 in each.
struct PictureSlot {
    int tiles;
    int frame = 0;  // 0: no frame
};

// A question of the user, with its pictures in order, and the answer once there is one.
struct Exchange {
    std::string question;
    std::vector<PictureSlot> pictures;
    bool combine = false;  // all pictures of the question under one <img>
    std::optional<std::string> answer;
};

// The engine's own way: pictures are put where api.md 2.3 `auto` says, and control strings that a
// user typed stay ordinary characters.
Prompt build_prompt(const Tokenizer&, const ChatTemplate&, const std::string& system,
                    std::span<const Exchange>);

// The reference's chat() (spec 6.2): questions are its own strings, <image> marks are replaced in
// order anywhere in the rendered string by entries of `tiles`, control strings act as control
// tokens.
Prompt build_reference_prompt(const Tokenizer&, const ChatTemplate&, const std::string& system,
                              std::span<const Turn>, std::span<const int> tiles);

}  // namespace internvl
