#include "serve/openai.h"

#include <fmt/format.h>

#include <set>

#include "base/base64.h"
#include "base/error.h"

namespace internvl {

using nlohmann::json;

namespace {

// A number within [low, high] into `out`, if the field is there.
template <class T>
void number(const json& body, const std::string& at, const char* name, double low, double high,
            T& out) {
    const auto field = body.find(name);
    if (field == body.end() || field->is_null()) return;
    const std::string param = at + name;
    if (!field->is_number() || (std::is_integral_v<T> && !field->is_number_integer()))
        refuse("invalid_type", param,
               fmt::format("{} must be a {}number, found {}", param,
                           std::is_integral_v<T> ? "whole " : "", shown(*field)));
    const double value = field->get<double>();
    if (!(value >= low && value <= high))
        refuse("invalid_value", param,
               fmt::format("{} must be from {} to {}, found {}", param, low, high, shown(*field)));
    out = field->get<T>();
}

void flag(const json& body, const std::string& at, const char* name, bool& out) {
    const auto field = body.find(name);
    if (field == body.end() || field->is_null()) return;
    if (!field->is_boolean())
        refuse("invalid_type", at + name,
               fmt::format("{}{} must be true or false, found {}", at, name, shown(*field)));
    out = field->get<bool>();
}

// Fields that would change the answer in a way that is not supported.
void refuse_unsupported(const json& body) {
    const std::pair<const char*, json> harmless[] = {
        {"n", 1},
        {"presence_penalty", 0},
        {"frequency_penalty", 0},
        {"logit_bias", json::object()},
        {"logprobs", false},
        {"top_logprobs", 0},
        {"response_format", {{"type", "text"}}},
        {"tools", json::array()},
        {"modalities", json::array({"text"})},
        {"stream", false},
        {"stop_token_ids", json::array()},
        {"prompt_logprobs", false},
        {"continue_final_message", false},
        {"add_generation_prompt", true},
    };
    for (const auto& [name, value] : harmless)
        if (const auto f = body.find(name); f != body.end() && !f->is_null() && *f != value)
            refuse("unsupported_parameter", name,
                   fmt::format("{} is not supported here; it may be absent or {}", name,
                               value.dump()));
    for (const char* name : {"audio", "functions", "guided_json", "chat_template", "image_embeds"})
        if (body.contains(name) && !body[name].is_null())
            refuse("unsupported_parameter", name, fmt::format("{} is not supported", name));
}

GenerateOptions parse_generation(const json& body, GenerateOptions o) {
    int limit = o.max_new_tokens, alias = 0;
    number(body, "", "max_tokens", 1, 1 << 24, alias);
    if (alias > 0) limit = alias;
    number(body, "", "max_completion_tokens", 1, 1 << 24, limit);
    if (alias > 0 && limit != alias)
        refuse("invalid_value", "max_tokens", "max_tokens and max_completion_tokens differ");
    o.max_new_tokens = limit;
    number(body, "", "min_tokens", 0, limit, o.min_new_tokens);
    float temperature = o.do_sample ? o.temperature : 0;
    const bool given = body.contains("temperature") && !body["temperature"].is_null();
    number(body, "", "temperature", 0, 2, temperature);
    if (given) o.do_sample = temperature > 0;
    if (temperature > 0) o.temperature = temperature;
    number(body, "", "top_p", 1e-9, 1, o.top_p);
    number(body, "", "top_k", -1, 1 << 24, o.top_k);
    o.top_k = std::max(o.top_k, 0);
    number(body, "", "min_p", 0, 1, o.min_p);
    number(body, "", "repetition_penalty", 1e-6, 10, o.repetition_penalty);
    int64_t seed = int64_t(o.seed);
    number(body, "", "seed", -9.3e18, 9.3e18, seed);
    o.seed = uint64_t(seed);
    flag(body, "", "ignore_eos", o.ignore_eos);
    const json stop = body.value("stop", json());
    if (stop.is_string()) o.stop = {stop.get<std::string>()};
    if (stop.is_array()) {
        o.stop.clear();
        for (const json& text : stop) {
            if (!text.is_string() || text.get_ref<const std::string&>().empty() || stop.size() > 16)
                refuse("invalid_value", "stop", "stop must be at most 16 strings, none empty");
            o.stop.push_back(text.get<std::string>());
        }
    }
    return o;
}

// The bytes of a data: address, or the path of a file.
struct Source {
    std::vector<std::byte> bytes;
    std::string path;
};

Source parse_source(const std::string& url, const std::string& folder, const std::string& param) {
    Source source;
    if (url.starts_with("data:")) {
        const size_t comma = url.find(',');
        if (comma == url.npos || url.substr(0, comma).find(";base64") == url.npos)
            refuse("invalid_image_url", param, param + " must be data:TYPE;base64,DATA");
        const auto bytes = decode_base64(std::string_view(url).substr(comma + 1));
        if (!bytes) refuse("invalid_base64", param, param + " holds malformed base64");
        source.bytes = *bytes;
        return source;
    }
    source.path = url.starts_with("file://") ? url.substr(7) : url;
    if (source.path.find("://") != std::string::npos)
        refuse("invalid_image_url", param,
               param + " must be a data: address or a file; nothing is fetched here");
    if (!source.path.starts_with('/')) source.path = folder + "/" + source.path;
    return source;
}

std::span<const std::byte> bytes_of(const Source& s) {
    return s.bytes;
}

const std::string& address(const json& part, const char* kind, const std::string& param) {
    const json* url = &part.at(kind);
    if (url->is_object()) {
        const auto inside = url->find("url");
        url = inside == url->end() ? nullptr : &*inside;
    }
    if (!url || !url->is_string())
        refuse("missing_field", param + ".url", param + ".url must be a string");
    return url->get_ref<const std::string&>();
}

ImageOptions picture_options(const json& spec, const std::string& at, ImageOptions o) {
    const json detail = spec.is_object() ? spec.value("detail", json()) : json();
    if (detail == "low")
        o.max_num = 1;
    else if (detail == "medium")
        o.max_num = 6;
    else if (detail == "high")
        o.max_num = std::max(12, o.max_num);
    else if (detail == "original")
        o.max_num = 24;
    else if (!detail.is_null() && detail != "auto")
        refuse("invalid_value", at + "detail",
               "detail must be low, medium, auto, high or original, found " + shown(detail));
    if (!spec.is_object()) return o;
    number(spec, at, "max_dynamic_patch", 1, 40, o.max_num);
    o.min_num = std::min(o.min_num, o.max_num);
    number(spec, at, "min_dynamic_patch", 1, o.max_num, o.min_num);
    flag(spec, at, "use_thumbnail", o.thumbnail);
    return o;
}

Photo parse_picture(const json& part, const std::string& at, const DialogueDefaults& defaults) {
    const std::string& url = address(part, "image_url", at + "image_url");
    const ImageOptions options =
        picture_options(part["image_url"], at + "image_url.", defaults.image);
    const Source source = parse_source(url, defaults.folder, at + "image_url.url");
    try {
        return source.path.empty() ? Photo::decode(bytes_of(source), options)
                                   : Photo::open(source.path, options);
    } catch (const Error& e) {
        refuse("invalid_image", at + "image_url.url", e.what());
    }
}

Video parse_video(const json& part, const std::string& at, const DialogueDefaults& defaults) {
    const std::string& url = address(part, "video_url", at + "video_url");
    const json& spec = part["video_url"];
    VideoOptions options = defaults.video;
    const std::string inside = at + "video_url.";
    if (spec.is_object()) {
        number(spec, inside, "num_segments", 1, 128, options.num_segments);
        number(spec, inside, "max_dynamic_patch", 1, 40, options.image.max_num);
        std::pair<double, double> bound{-1, -1};
        number(spec, inside, "start", 0, 1e9, bound.first);
        number(spec, inside, "end", 0, 1e9, bound.second);
        if (const json b = spec.value("bound", json());
            b.is_array() && b.size() == 2 && b[0].is_number() && b[1].is_number())
            bound = {b[0].get<double>(), b[1].get<double>()};
        else if (!b.is_null())
            refuse("invalid_value", inside + "bound", "bound must be [start, end] in seconds");
        if (bound.first >= 0 && bound.second <= bound.first)
            refuse("invalid_value", inside + "bound", "the end must lie after the start");
        if (bound.first >= 0) options.bound = bound;
    }
    const Source source = parse_source(url, defaults.folder, inside + "url");
    try {
        return source.path.empty() ? Video::decode(bytes_of(source), options)
                                   : Video::open(source.path, options);
    } catch (const Error& e) {
        refuse("invalid_video", inside + "url", e.what());
    }
}

void append_text(std::string& text, const std::string& more) {
    if (!text.empty() && !text.ends_with('\n')) text += '\n';
    text += more;
}

// A user's message on its way to a round.
struct UserMessage {
    const DialogueDefaults& defaults;
    int earlier;  // pictures before it in the conversation
    Round round = {};
    std::string marked = {};  // the text with a mark where each picture stood
    bool text_after_media = false, media_after_text = false, has_video = false;
    int pictures = 0;

    void add(const json& part, const std::string& at) {
        const json named = part.is_object() ? part.value("type", json()) : json();
        const std::string type = named.is_string() ? named.get<std::string>() : "";
        if (type == "text") {
            if (!part.contains("text") || !part["text"].is_string())
                refuse("missing_field", at + "text", at + "text must be a string");
            const auto text = part["text"].get<std::string>();
            text_after_media |= !round.media.empty();
            append_text(round.question, text);
            append_text(marked, text);
        } else if (type == "image_url" && part.contains("image_url")) {
            media_after_text |= !round.question.empty();
            round.media.emplace_back(parse_picture(part, at, defaults));
            ++pictures;
            if (!marked.empty() && !marked.ends_with('\n')) marked += '\n';
            marked += fmt::format("Image-{}: <image>\n", earlier + pictures);
        } else if (type == "video_url" && part.contains("video_url")) {
            media_after_text |= !round.question.empty();
            round.media.emplace_back(parse_video(part, at, defaults));
            has_video = true;
        } else {
            refuse("unsupported_content_part", at + "type",
                   "a part must be text, image_url or video_url, found " + shown(type));
        }
    }

    // api.md 2.3, `auto`: media before or behind the text go first; else they stay where they are.
    Round finish(const std::string& at) {
        if (!text_after_media || !media_after_text) return std::move(round);
        if (has_video || round.question.find("<image>") != std::string::npos)
            refuse(
                "unsupported_content_part", at,
                "a video, or a literal <image>, between texts is not supported; put media before "
                "or behind the text");
        if (pictures == 1 && earlier == 0) marked.erase(marked.find("Image-1: "), 9);
        round.question = marked;
        return std::move(round);
    }
};

// The text of a message that can hold nothing else.
std::string text_of(const json& content, const std::string& at) {
    if (content.is_string()) return content.get<std::string>();
    if (!content.is_array()) refuse("invalid_type", at, at + " must be a string or text parts");
    std::string text;
    for (const json& part : content) {
        if (!part.is_object() || part.value("type", json()) != "text" || !part.contains("text") ||
            !part["text"].is_string())
            refuse("unsupported_content_part", at, at + " may hold text only");
        append_text(text, part["text"].get<std::string>());
    }
    return text;
}

void parse_messages(const json& messages, const DialogueDefaults& defaults, Dialogue& d) {
    int pictures = 0;
    for (size_t i = 0; i < messages.size(); ++i) {
        const json& m = messages[i];
        const std::string at = fmt::format("messages[{}].", i);
        if (!m.is_object() || !m.contains("content"))
            refuse("missing_field", at + "content", at + "content is missing");
        const json named = m.value("role", json());
        const std::string role = named.is_string() ? named.get<std::string>() : "";
        const bool answered = d.rounds.empty() || d.rounds.back().answer.has_value();
        if ((role == "system" || role == "developer") && d.rounds.empty()) {
            append_text(d.system, text_of(m["content"], at + "content"));
        } else if (role == "user" && answered) {
            UserMessage user{defaults, pictures};
            const json& content = m["content"];
            if (content.is_string()) user.round.question = content.get<std::string>();
            if (!content.is_string() && (!content.is_array() || content.empty()))
                refuse("invalid_type", at + "content", at + "content must be a string or parts");
            if (content.is_array())
                for (size_t p = 0; p < content.size(); ++p)
                    user.add(content[p], fmt::format("{}content[{}].", at, p));
            pictures += user.pictures;
            d.rounds.push_back(user.finish(at + "content"));
        } else if (role == "assistant" && !answered) {
            d.rounds.back().answer = text_of(m["content"], at + "content");
        } else {
            refuse("invalid_messages", at + "role",
                   fmt::format("{}role must be {}, found {}", at,
                               answered ? "user (system only at the start)" : "assistant",
                               shown(named)));
        }
    }
    if (d.rounds.empty() || d.rounds.back().answer)
        refuse("invalid_messages", "messages", "the last message must be the user's");
}

}  // namespace

DialogueRequest parse_dialogue_request(const json& body, const DialogueDefaults& defaults) {
    if (!body.is_object()) refuse("invalid_type", "body", "the body must be an object");
    const auto messages = body.find("messages");
    if (messages == body.end() || !messages->is_array() || messages->empty() ||
        messages->size() > 512)
        refuse("missing_field", "messages", "messages must be a list of 1 to 512 messages");
    refuse_unsupported(body);
    DialogueRequest request;
    if (const json model = body.value("model", json()); model.is_string()) request.model = model;
    request.dialogue.generate = parse_generation(body, defaults.generate);
    request.dialogue.combine = body.value("image_placement", json()) == "combined";
    parse_messages(*messages, defaults, request.dialogue);
    flag(body, "", "return_token_ids", request.return_token_ids);
    return request;
}

nlohmann::ordered_json chat_completion(const Result& r, const Envelope& e) {
    // The stop token is not counted.
    const int made = int(r.ids.size()) - int(r.finish_reason == "stop" && !r.ids.empty());
    const int prompt = int(r.prompt_ids.size());
    nlohmann::ordered_json choice = {
        {"index", 0},
        {"message", {{"role", "assistant"}, {"content", r.text}, {"refusal", nullptr}}},
        {"logprobs", nullptr},
        {"finish_reason", r.finish_reason}};
    if (e.token_ids) choice["token_ids"] = r.ids;
    return {{"id", e.id},
            {"object", "chat.completion"},
            {"created", e.created},
            {"model", e.model},
            {"choices", {choice}},
            {"usage",
             {{"prompt_tokens", prompt},
              {"completion_tokens", made},
              {"total_tokens", prompt + made},
              {"prompt_tokens_details",
               {{"cached_tokens", 0},
                {"text_tokens", prompt - r.image_tokens},
                {"image_tokens", r.image_tokens}}}}}};
}

}  // namespace internvl
