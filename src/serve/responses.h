#pragma once
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "serve/answer_writer.h"
#include "serve/chat_request.h"
#include "serve/estimate.h"

namespace internvl {

// What all chunks of an answer begin with.
struct AnswerHead {
    bool chat = true;     // else a plain completion
    std::string id;       // chatcmpl-..., cmpl-...
    int64_t created = 0;  // seconds since 1970
    std::string model;    // as the client named it
    std::string fingerprint = {};
};

struct Usage {
    int64_t prompt_tokens = 0, image_tokens = 0;  // the second among the first
    int64_t cached_tokens = 0;                    // of the prompt
    int64_t completion_tokens = 0;                // of all choices, stop tokens not counted
};
nlohmann::ordered_json usage_body(const Usage&);

// How answers are written.
struct AnswerShape {
    int choices = 1;
    bool logprobs = false, token_ids = false, usage = false;  // the last for streams
    int top = 0;                                              // alternatives of each token
};

// One finished choice.
struct Choice {
    Delta whole;
    std::string finish_reason;  // stop or length
};

// What `return_info` adds (api.md 3.2). Times in seconds.
struct AnswerInfo {
    int64_t seed = 0;
    std::vector<EstimatedPicture> images;
    std::vector<EstimatedVideo> videos;
    std::vector<std::string> answers;  // with tags, for their boxes, by choice
    double queue = 0, fetch = 0, decode = 0, resize = 0, vit = 0, prefill = 0, decode_tokens = 0,
           ttft = 0;
    int preemptions = 0;
};
nlohmann::ordered_json info_body(const AnswerInfo&);

// A whole answer (api.md 3.1); `info` null for none.
nlohmann::ordered_json answer_body(const AnswerHead&, const AnswerShape&,
                                   const std::vector<Choice>&, const Usage&,
                                   const AnswerInfo* info = nullptr);

// An answer in events (api.md 3.3). Each call gives the bytes to send, whole events; "" for none.
// begin, then deltas and finishes of all choices, then end.
class AnswerEvents {
  public:
    AnswerEvents(AnswerHead, const AnswerShape&);

    std::string begin();
    std::string delta(int choice, const Delta&);
    // `info` is asked for with the last choice only.
    std::string finish(int choice, const std::string& reason, const AnswerInfo* info = nullptr);
    std::string end(const Usage&);  // with [DONE]
    int unfinished() const { return unfinished_; }

  private:
    std::string event(int choice, nlohmann::ordered_json&& entry, const AnswerInfo* info = nullptr);

    AnswerHead head_;
    AnswerShape shape_;
    int unfinished_;
    std::vector<int64_t> offsets_;       // characters shown of each choice
    std::vector<std::vector<int>> ids_;  // of tokens that no chunk has named yet
};
std::string error_event(const RequestError&);  // instead of what is left of a stream
constexpr const char* keep_alive_event = ": keep-alive\n\n";

// An entry of /v1/models.
struct ModelEntry {
    std::string id, parent = {};  // parent: of an adapter
    int64_t created = 0, max_model_len = 0;
    int max_dynamic_patch = 12;
    GenerateOptions defaults = {};
};
nlohmann::ordered_json model_body(const ModelEntry&);
nlohmann::ordered_json models_body(const std::vector<ModelEntry>&);

}  // namespace internvl
