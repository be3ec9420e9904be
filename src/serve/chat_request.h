#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "engine/prompt.h"
#include "internvl/options.h"
#include "serve/media_part.h"
#include "serve/request_error.h"

namespace internvl {

// Bounds that follow from the model and from how the service was started.
struct RequestLimits {
    int64_t vocabulary = 1 << 24;     // ids are below
    std::vector<int> image_ids = {};  // which no request may name: <img>, </img>, <IMG_CONTEXT>
    int64_t max_model_len = 8192;
    int64_t max_n = 8;
    int64_t max_tiles = 40;  // that a request may ask for, of a picture
    int64_t max_images = 32, max_videos = 1, max_frames = 128;
    int64_t max_deadline_ms = 540'000;
    int64_t max_tokenize_bytes = 4 << 20;
    int checkpoint_tiles = 12;      // what the model was made for
    bool lmdeploy_details = false;  // `detail` counts as LMDeploy's
    bool clamp_max_tokens = false;  // an answer that does not fit is shortened, not refused
    bool control_tokens = false;    // control strings in messages act as control tokens
    bool strict_fields = false;     // unknown fields are refused
    bool model_required = true;
    bool bare_paths = false;  // media may be named by the path of a file
};

// What holds where a request does not say otherwise.
struct RequestDefaults {
    GenerateOptions generate;
    ImageOptions image;
    VideoOptions video;
    bool random_seed = true;  // else generate.seed
    RequestLimits limits;
};
RequestDefaults service_defaults();  // those of api.md 1.2; limits are the caller's to fill

// What chat and plain completions have in common.
struct AnswerOptions {
    std::string model;  // "" when the request names none
    GenerateOptions generate;
    bool max_tokens_given = false;
    int n = 1;
    bool stream = false, include_usage = false;
    bool return_info = false, return_token_ids = false;
    int top_logprobs = -1;  // alternatives of each token; -1: no log-probabilities at all
    std::string cache_salt;
    int priority = 0;
    std::optional<int64_t> deadline_ms;
};

// Where a picture or video stands in the request.
struct RequestPlace {
    int message = 0, part = 0;
};

struct ChatRequest {
    AnswerOptions answer;
    std::vector<Message> messages;     // a system message only as the first
    std::vector<MediaPart> media;      // by number
    std::vector<RequestPlace> places;  // of each
    PromptOptions prompt;
    std::optional<int> max_total_tiles;
    bool reduce_images = false;  // image_fit: fewer tiles rather than a refusal
};

// The body of a request as JSON: UTF-8, at most 64 levels, of equal keys the last. Throws
// RequestError invalid_json with the byte where it goes wrong.
nlohmann::json parse_request_json(std::string_view body);

// The body of a chat completion (api.md 1.2, 2). Nothing is fetched, read or decoded. Names of
// fields that nobody knows are added to `ignored`. Throws RequestError.
ChatRequest parse_chat_request(const nlohmann::json& body, const RequestDefaults&,
                               std::vector<std::string>& ignored);

// The value of the header x-internvl-ignored, "" when there is none.
std::string ignored_header(const std::vector<std::string>& ignored);

}  // namespace internvl
