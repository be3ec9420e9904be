#pragma once
// What stands behind the public classes of internvl/internvl.h.

#include "engine/session.h"
#include "internvl/internvl.h"
#include "media/clip.h"

namespace internvl {

TileOptions tile_options(const ImageOptions&);
FrameOptions frame_options(const VideoOptions&);
// Photos as they are, videos as their frames.
std::vector<Picture> pictures_of(const std::vector<Media>&);
Result to_result(Reply);
// The system message that a conversation begins with: the one given, or the model's.
std::string system_or_default(const Engine&, const std::string& system);

// A conversation as a request of the service has it: every message a turn of its own, media at
// their places (engine/prompt.h).
struct Conversation {
    std::vector<Message> messages;
    std::vector<Media> media;  // by number
    PromptOptions prompt;
    GenerateOptions generate;

    // As Dialogues::add.
    void add_to(Dialogues&, std::function<void(Result, const std::string* error)>) const;
};

struct Photo::Data {
    int width, height;
    Tiles tiles;
    double decode_ms, tile_ms;
};

struct Video::Data {
    int width, height;
    int64_t frame_count;
    double fps;
    Clip clip;
    double decode_ms;  // decoding and cutting
};

struct Model::Data {
    Data(const ModelFolder& folder, const LoadOptions& options) : engine(folder, options) {}
    Engine engine;
};

}  // namespace internvl
