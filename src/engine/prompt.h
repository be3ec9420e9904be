#pragma once
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "text/chat_template.h"
#include "text/tokenizer.h"

namespace internvl {

constexpr int tokens_per_tile = 256;

// Where a picture, or a frame of a video, stands among the ids of a prompt.
struct PicturePlace {
    size_t first;  // its first <IMG_CONTEXT>
    int tiles;
};

// A prompt as the model reads it. The prompt builder is the only place that knows how many tokens a
// picture takes.
struct Prompt {
    std::string text;  // with every <IMG_CONTEXT> written out
    std::vector<int> ids;
    std::vector<PicturePlace> places = {};  // in order
    int64_t image_tokens() const;           // rows of pictures; what else there is counts as text
};

// A stretch of a message: words, or a picture or video by its number among those of the
// conversation.
struct MessagePart {
    std::string text;
    int media = -1;  // below 0: words
};

struct Message {
    enum class Role { system, user, assistant } role = Role::user;
    std::vector<MessagePart> parts;
};

// Tiles of a picture, or of each frame of a video.
struct MediaTiles {
    std::vector<int> tiles;
    bool video = false;
};

// How pictures and words of a user's message become one string (api.md 2.3).
enum class Placement { automatic, parts, markers, plain_marks, combined };

struct PromptOptions {
    Placement placement = Placement::automatic;
    bool continue_last = true;    // a last message of the assistant is the beginning of the answer
    bool control_tokens = false;  // control strings in messages act as control tokens
};

// Marks for pictures, <image> and <IMAGE_TOKEN>, in the words of a message.
int count_marks(const Message&);

// The prompt of a conversation. `system` holds where no message is the system's. Words of messages
// are data: no control token comes out of them (api.md 2.4). Throws Error where Placement::markers
// finds other than one mark for each picture.
Prompt build_prompt(const Tokenizer&, const ChatTemplate&, const std::string& system,
                    std::span<const Message>, std::span<const MediaTiles>, const PromptOptions&);

// The prompt of words alone, without a template. `begin`: with the start token that the tokenizer
// prescribes.
Prompt plain_prompt(const Tokenizer&, const std::string& text, bool begin = true,
                    bool control_tokens = false);

// A picture's place in a question; a frame of a video counts from 1 in each.
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

// The same for questions and answers in turn: pictures are put where Placement::automatic says.
Prompt build_prompt(const Tokenizer&, const ChatTemplate&, const std::string& system,
                    std::span<const Exchange>);

// The reference's chat() (spec 6.2): questions are its own strings, <image> marks are replaced in
// order anywhere in the rendered string by entries of `tiles`, control strings act as control
// tokens.
Prompt build_reference_prompt(const Tokenizer&, const ChatTemplate&, const std::string& system,
                              std::span<const Turn>, std::span<const int> tiles);

}  // namespace internvl
