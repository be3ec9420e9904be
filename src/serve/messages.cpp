#include "serve/messages.h"

#include <fmt/format.h>

#include <algorithm>

#include "serve/answer_options.h"
#include "serve/media_fields.h"

namespace internvl {

using nlohmann::json;

namespace {

using Role = Message::Role;
constexpr int most_parts = 2048;  // of a request

class MessageReader {
  public:
    MessageReader(const json& body, const RequestDefaults& defaults, ChatRequest& request,
                  std::vector<std::string>& ignored)
        : defaults_(defaults),
          media_(parse_media_defaults(body, defaults, ignored)),
          request_(request),
          ignored_(ignored) {}

    void read(const json& message, int number) {
        number_ = number;
        const std::string at = fmt::format("messages[{}].", number);
        if (!message.is_object())
            refuse("invalid_type", at.substr(0, at.size() - 1),
                   fmt::format("messages[{}] must be an object, found {}", number, shown(message)));
        const FieldReader fields(message, at);
        std::string role, name;
        if (!fields.text("role", role))
            refuse("missing_field", fields.place("role"), fields.place("role") + " is missing");
        fields.text("name", name);
        if (role == "system" || role == "developer")
            read_system(fields);
        else if (role == "user")
            read_user(fields);
        else if (role == "assistant")
            read_assistant(fields);
        else if (role == "tool" || role == "function")
            refuse("unsupported_parameter", fields.place("role"),
                   fmt::format("{} {} is not supported; system, developer, user and assistant are",
                               fields.place("role"), role));
        else
            refuse("invalid_value", fields.place("role"),
                   fmt::format("{} must be system, developer, user or assistant, found {}",
                               fields.place("role"), internvl::quoted(role)));
        static constexpr const char* known[] = {"role",       "content",       "name", "refusal",
                                                "tool_calls", "function_call", "audio"};
        fields.unknown(known, defaults_.limits.strict_fields, ignored_);
    }

  private:
    void read_system(const FieldReader& fields) {
        std::vector<Message>& all = request_.messages;
        if (!all.empty() && all.back().role != Role::system)
            refuse("invalid_messages", fields.place("role"),
                   fmt::format("{} may be system or developer only before all other messages",
                               fields.place("role")));
        Message message = content_of(fields, "text");
        if (all.empty()) {
            message.role = Role::system;
            all.push_back(std::move(message));
        } else {
            std::ranges::move(message.parts, std::back_inserter(all[0].parts));
        }
    }

    void read_user(const FieldReader& fields) {
        request_.messages.push_back(content_of(fields, "text, image_url or video_url"));
    }

    void read_assistant(const FieldReader& fields) {
        for (const char* name : {"tool_calls", "function_call", "audio"}) {
            const json* found = fields.find(name);
            if (found && !(found->is_array() && found->empty()))
                refuse("unsupported_parameter", fields.place(name),
                       fields.place(name) + " is not supported");
        }
        Message message;
        std::string refusal;
        if (fields.has("content"))
            message = content_of(fields, "text or refusal");
        else if (fields.text("refusal", refusal))
            message.parts.push_back({refusal});
        message.role = Role::assistant;
        request_.messages.push_back(std::move(message));
    }

    // A string or parts. `kinds`: those that may stand here.
    Message content_of(const FieldReader& fields, const std::string& kinds) {
        const std::string place = fields.place("content");
        const json* content = fields.find("content");
        if (!content) refuse("missing_field", place, place + " is missing");
        Message message;
        if (content->is_string()) {
            message.parts.push_back({content->get<std::string>()});
            return message;
        }
        if (!content->is_array())
            refuse("invalid_type", place,
                   fmt::format("{} must be a string or a list of parts, found {}", place,
                               shown(*content)));
        if (content->empty())
            refuse("invalid_value", place, place + " must hold at least one part, found none");
        parts_ += int64_t(content->size());
        if (parts_ > most_parts)
            refuse(
                "invalid_value", place,
                fmt::format("a request must have at most {} parts, found {}", most_parts, parts_));
        for (size_t i = 0; i < content->size(); ++i)
            message.parts.push_back(
                part_of((*content)[i], fmt::format("{}[{}].", place, i), kinds, int(i)));
        return message;
    }

    MessagePart part_of(const json& part, const std::string& at, const std::string& kinds,
                        int number) {
        const FieldReader fields(part, at);
        std::string type;
        if (!part.is_object())
            refuse("invalid_type", at.substr(0, at.size() - 1),
                   fmt::format("{} must be an object, found {}", at.substr(0, at.size() - 1),
                               shown(part)));
        if (!fields.text("type", type))
            refuse("missing_field", fields.place("type"), fields.place("type") + " is missing");
        if (kinds.find(type) == kinds.npos || !is_known(type))
            refuse("unsupported_content_part", fields.place("type"),
                   fmt::format("{} must be {} here, found {}", fields.place("type"), kinds,
                               internvl::quoted(type)));
        if (type == "image_url" || type == "video_url") return medium_of(part, at, number);
        MessagePart words;
        if (!fields.text(type.c_str(), words.text))
            refuse("missing_field", fields.place(type.c_str()),
                   fields.place(type.c_str()) + " is missing");
        const char* known[] = {"type", type.c_str(), "prompt_cache_breakpoint"};
        fields.unknown(known, defaults_.limits.strict_fields, ignored_);
        return words;
    }

    static bool is_known(const std::string& type) {
        return type == "text" || type == "refusal" || type == "image_url" || type == "video_url";
    }

    MessagePart medium_of(const json& part, const std::string& at, int number) {
        MediaPart medium = parse_media_part(part, at, media_, defaults_, ignored_);
        count(medium);
        request_.media.push_back(std::move(medium));
        request_.places.push_back({number_, number});
        return {"", int(request_.media.size()) - 1};
    }

    void count(const MediaPart& medium) {
        const RequestLimits& limits = defaults_.limits;
        const bool video = medium.kind == MediaPart::Kind::video;
        int64_t& so_far = video ? videos_ : pictures_;
        const int64_t most = video ? limits.max_videos : limits.max_images;
        if (++so_far > most)
            refuse(video ? "too_many_frames" : "too_many_images", "messages",
                   fmt::format("a request may have at most {} {}, found more", most,
                               video ? "videos" : "pictures"));
    }

    const RequestDefaults& defaults_;
    MediaDefaults media_;
    ChatRequest& request_;
    std::vector<std::string>& ignored_;
    int number_ = 0;
    int64_t parts_ = 0, pictures_ = 0, videos_ = 0;
};

// image_placement `markers`: one mark for each picture of a message, and no video.
void check_marks(const ChatRequest& request, std::span<const int> numbers) {
    for (size_t i = 0; i < request.messages.size(); ++i) {
        const Message& m = request.messages[i];
        if (m.role != Role::user) continue;
        int pictures = 0;
        bool video = false;
        for (const MessagePart& part : m.parts) {
            if (part.media < 0) continue;
            ++pictures;
            video |= request.media[size_t(part.media)].kind == MediaPart::Kind::video;
        }
        const int found = count_marks(m);
        if (!video && found == pictures) continue;
        const std::string place = fmt::format("messages[{}].content", numbers[i]);
        refuse("image_marker_mismatch", place,
               video ? place + " holds a video, which image_placement markers has no place for"
                     : fmt::format("{} must hold one <image> for each of its {} pictures, found {}",
                                   place, pictures, found));
    }
}

void read_turns(const FieldReader& fields, const ChatRequest& request, PromptOptions& prompt) {
    bool begin = true;
    const bool continues = !fields.has("continue_final_message");
    const bool begins = fields.flag("add_generation_prompt", begin);
    fields.flag("continue_final_message", prompt.continue_last);
    const bool answered = request.messages.back().role == Role::assistant;
    if (begins && begin && !continues && prompt.continue_last)
        refuse("invalid_value", "add_generation_prompt",
               "add_generation_prompt and continue_final_message cannot both be true");
    if (begins && !begin && (!answered || !prompt.continue_last))
        refuse("invalid_value", "add_generation_prompt",
               "add_generation_prompt may be false only where the last message is the assistant's "
               "and is continued");
    if (!continues && prompt.continue_last && !answered)
        refuse("invalid_value", "continue_final_message",
               "continue_final_message may be true only where the last message is the "
               "assistant's");
}

Placement placement_of(const FieldReader& fields) {
    std::string name;
    if (!fields.text("image_placement", name) || name == "auto") return Placement::automatic;
    if (name == "parts") return Placement::parts;
    if (name == "markers") return Placement::markers;
    return name == "inline" ? Placement::plain_marks : Placement::combined;
}

}  // namespace

void parse_messages(const json& body, const RequestDefaults& defaults, ChatRequest& request,
                    std::vector<std::string>& ignored) {
    const FieldReader fields(body, "");
    const json* messages = fields.find("messages");
    if (!messages) refuse("missing_field", "messages", "messages is missing");
    MessageReader reader(body, defaults, request, ignored);
    std::vector<int> numbers;  // in the request, of each message
    for (size_t i = 0; i < messages->size(); ++i) {
        reader.read((*messages)[i], int(i));
        numbers.resize(request.messages.size(), int(i));
    }
    if (std::ranges::find(request.messages, Role::user, &Message::role) == request.messages.end())
        refuse("invalid_messages", "messages", "messages must hold at least one of role user");
    request.prompt.placement = placement_of(fields);
    request.prompt.control_tokens = defaults.limits.control_tokens;
    read_turns(fields, request, request.prompt);
    if (request.prompt.placement == Placement::markers) check_marks(request, numbers);
    int total = 0;
    if (fields.integer("max_total_tiles", 1, 1024, total)) request.max_total_tiles = total;
    std::string fit;
    request.reduce_images = fields.text("image_fit", fit) && fit == "reduce";
}

ChatRequest parse_chat_request(const json& body, const RequestDefaults& defaults,
                               std::vector<std::string>& ignored) {
    check_fields(body, Field::chat, defaults.limits, ignored);
    ChatRequest request;
    request.answer = parse_answer_options(body, defaults, true, ignored);
    parse_messages(body, defaults, request, ignored);
    return request;
}

}  // namespace internvl
