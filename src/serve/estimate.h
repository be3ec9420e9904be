#pragma once
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "media/tile.h"
#include "serve/chat_request.h"

namespace internvl {

// What the header of a picture or video says, and how many of its frames are looked at.
struct MediaSize {
    int width = 0, height = 0;
    int frames = 1;
    double fps = 0;                     // of a video, on average
    int64_t frame_count = 0;            // of a video, all
    std::vector<int64_t> indices = {};  // of a video, those that are looked at
};

struct EstimatedPicture {
    RequestPlace place;
    int width = 0, height = 0;
    Grid grid;
    bool thumbnail = false;
    int tiles = 0;  // with the thumbnail
    int tiles_cached = 0;
};

struct EstimatedVideo {
    RequestPlace place;
    MediaSize size;
    int tiles = 0;  // of all frames
};

// How many frames a part takes of a video with this rate and length; fps counts before
// num_segments (api.md 2.2).
int frames_of(const MediaPart&, double fps, int64_t frame_count, int64_t max_frames);

// A chat before anything is decoded: its prompt and what fills it.
struct ChatPlan {
    Prompt prompt;
    std::vector<MediaTiles> tiles;  // of each medium
    std::vector<EstimatedPicture> images;
    std::vector<EstimatedVideo> videos;
    int64_t text_tokens = 0, image_tokens = 0;
};

// From the sizes of the request's media, in order. image_fit `reduce` lowers the limits of tiles in
// the request's media. Sets the limit of the answer in request.answer.generate. Throws RequestError
// for too many tiles and for a prompt or answer that the context does not hold.
ChatPlan plan_chat(ChatRequest& request, std::span<const MediaSize> sizes, const Tokenizer&,
                   const ChatTemplate&, const std::string& system, const RequestLimits&);
// The same without the check against the context, for estimates.
ChatPlan estimate_chat(ChatRequest& request, std::span<const MediaSize> sizes, const Tokenizer&,
                       const ChatTemplate&, const std::string& system, const RequestLimits&);
// Sets the limit of an answer to this prompt; throws RequestError, for the field `param`, when the
// context does not hold both.
void fit_answer(AnswerOptions&, const Prompt&, const RequestLimits&,
                const char* param = "messages");

// What an estimate is asked of: sizes, media to open, or a whole chat (api.md 1.6).
struct EstimateRequest {
    std::optional<ChatRequest> chat;  // messages; otherwise pictures and videos without words
    std::vector<MediaPart> media;     // with an address: to be opened by header
    std::vector<MediaSize> sizes;     // of each; a width of 0 where the header tells
    bool return_tiles = false;
};
EstimateRequest parse_estimate_request(const nlohmann::json& body, const RequestDefaults&);
// From the query of a GET, by name.
EstimateRequest parse_estimate_query(std::span<const std::pair<std::string, std::string>> query,
                                     const RequestDefaults&);

// How long a machine takes, seconds; for tiles and tokens.
struct Calibration {
    double tile = 0, token = 0;
};
// `plan` of a chat, or of media without words (`words` false: text counts are null).
nlohmann::ordered_json estimate_body(const ChatPlan& plan, bool words, const RequestLimits&,
                                     const std::optional<Calibration>&);
// `return_tiles`: data: addresses of the tiles as the model sees them, the thumbnail last.
nlohmann::ordered_json tiles_png(const Tiles&);
ChatPlan plan_media(const EstimateRequest&, std::span<const MediaSize> sizes);

}  // namespace internvl
