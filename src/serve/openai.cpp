#include "serve/openai.h"

#include "base/base64.h"
#include "base/error.h"
#include "serve/chat_request.h"
#include "serve/responses.h"

namespace internvl {

using nlohmann::json;

namespace {

// The bytes of a data: address, or the path of a file.
struct Source {
    std::vector<std::byte> bytes;
    std::string path;
};

Source source_of(const MediaPart& part, const std::string& folder) {
    const std::string& url = part.url;
    const bool video = part.kind == MediaPart::Kind::video;
    const char* invalid = video ? "invalid_video_url" : "invalid_image_url";
    Source source;
    if (url.starts_with("data:")) {
        const size_t comma = url.find(',');
        if (comma == url.npos || url.substr(0, comma).find(";base64") == url.npos)
            refuse(invalid, part.param, part.param + " must be data:TYPE;base64,DATA");
        auto bytes = decode_base64(std::string_view(url).substr(comma + 1));
        if (!bytes) refuse("invalid_base64", part.param, part.param + " holds malformed base64");
        source.bytes = std::move(*bytes);
        return source;
    }
    source.path = url.starts_with("file://") ? url.substr(7) : url;
    if (source.path.find("://") != std::string::npos)
        refuse(invalid, part.param,
               part.param + " must be a data: address or a file; nothing is fetched here");
    if (!source.path.starts_with('/')) source.path = folder + "/" + source.path;
    return source;
}

template <class Medium>
Media load(const Source& source, const auto& options) {
    return source.path.empty() ? Medium::decode(source.bytes, options)
                               : Medium::open(source.path, options);
}

Media load(MediaPart part, const std::string& folder) {
    const bool video = part.kind == MediaPart::Kind::video;
    const Source source = source_of(part, folder);
    try {
        return video ? load<Video>(source, part.video) : load<Photo>(source, part.image);
    } catch (const Error& e) {
        refuse(video ? "invalid_video" : "invalid_image", part.param, e.what());
    }
}

// What has no meaning in a file of requests, or is not made there.
void refuse_what_serves(const ChatRequest& request) {
    const AnswerOptions& a = request.answer;
    const std::pair<const char*, bool> asked[] = {
        {"n", a.n > 1},
        {"stream", a.stream},
        {"logprobs", a.top_logprobs >= 0},
        {"return_info", a.return_info},
        {"max_total_tiles", request.max_total_tiles.has_value()},
        {"image_fit", request.reduce_images},
    };
    for (const auto& [name, is_asked] : asked)
        if (is_asked)
            refuse("unsupported_parameter", name,
                   std::string(name) + " is for the service; it is not supported in a file");
    for (const MediaPart& part : request.media)
        if (part.fps)
            refuse("unsupported_parameter", part.param,
                   "fps is for the service; a file says num_segments");
}

}  // namespace

FileRequest parse_file_request(const json& body, const FileDefaults& defaults) {
    RequestDefaults d{defaults.generate, defaults.image, defaults.video, false, {}};
    d.limits.model_required = false;
    d.limits.bare_paths = true;
    d.limits.max_images = d.limits.max_videos = 1024;
    std::vector<std::string> ignored;
    ChatRequest request = parse_chat_request(body, d, ignored);
    refuse_what_serves(request);
    FileRequest made;
    made.model = request.answer.model;
    made.return_token_ids = request.answer.return_token_ids;
    made.conversation.messages = std::move(request.messages);
    made.conversation.prompt = request.prompt;
    made.conversation.generate = request.answer.generate;
    for (MediaPart& part : request.media)
        made.conversation.media.push_back(load(std::move(part), defaults.folder));
    return made;
}

Dialogue to_question(const FileRequest& request) {
    const Conversation& c = request.conversation;
    Dialogue dialogue;
    dialogue.generate = c.generate;
    dialogue.combine = c.prompt.placement == Placement::combined;
    for (const Message& m : c.messages) {
        std::string words;
        for (const MessagePart& part : m.parts)
            if (part.media < 0) words += (words.empty() ? "" : "\n") + part.text;
        if (m.role == Message::Role::system)
            dialogue.system = words;
        else
            dialogue.rounds.push_back({words});
        if (m.role == Message::Role::assistant || dialogue.rounds.size() > 1)
            refuse("invalid_messages", "messages", "one question is wanted, without history");
    }
    dialogue.rounds.back().media = c.media;
    return dialogue;
}

nlohmann::ordered_json chat_completion(const Result& r, const Envelope& e) {
    Choice choice{{r.text, r.ids, {}}, r.finish_reason};
    const bool with_stop = r.finish_reason == "stop" && !r.ids.empty();
    if (with_stop) choice.whole.ids.pop_back();  // it is not counted
    Usage usage;
    usage.prompt_tokens = int64_t(r.prompt_ids.size());
    usage.image_tokens = r.image_tokens;
    usage.completion_tokens = int64_t(choice.whole.ids.size());
    return answer_body({true, e.id, e.created, e.model}, {.token_ids = e.token_ids}, {choice},
                       usage);
}

}  // namespace internvl
