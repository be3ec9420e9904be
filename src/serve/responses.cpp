#include "serve/responses.h"

#include <cmath>

#include "internvl/grounding.h"

namespace internvl {

using Json = nlohmann::ordered_json;

namespace {

// As many digits as were meant: 0.7, not 0.699999988.
double rounded(float x) {
    return std::round(double(x) * 1e6) / 1e6;
}

Json bytes_body(const TokenChance& c) {
    if (c.dropped) return {};
    Json bytes = Json::array();
    for (const char byte : c.bytes) bytes.push_back(int(uint8_t(byte)));
    return bytes;
}

Json chance_body(const TokenChance& c) {
    return {{"token", c.token}, {"bytes", bytes_body(c)}, {"logprob", c.logprob}};
}

Json chat_logprobs(const std::vector<TokenLogprob>& tokens) {
    Json content = Json::array();
    for (const TokenLogprob& t : tokens) {
        Json entry = chance_body(t.chosen);
        Json top = Json::array();
        for (const TokenChance& c : t.top) top.push_back(chance_body(c));
        entry["top_logprobs"] = std::move(top);
        content.push_back(std::move(entry));
    }
    return {{"content", std::move(content)}, {"refusal", nullptr}};
}

int64_t characters(std::string_view text) {
    int64_t count = 0;
    for (const char c : text) count += (uint8_t(c) & 0xc0) != 0x80;
    return count;
}

// The shape of plain completions; `offset` counts the characters of the text so far.
Json plain_logprobs(const std::vector<TokenLogprob>& tokens, int top, int64_t& offset) {
    Json names = Json::array(), chances = Json::array(), all = Json::array(),
         offsets = Json::array();
    for (const TokenLogprob& t : tokens) {
        names.push_back(t.chosen.token);
        chances.push_back(t.chosen.logprob);
        Json best = Json::object();
        for (const TokenChance& c : t.top) best.emplace(c.token, c.logprob);
        all.push_back(std::move(best));
        offsets.push_back(offset);
        if (!t.chosen.dropped) offset += characters(t.chosen.bytes);
    }
    return {{"tokens", std::move(names)},
            {"token_logprobs", std::move(chances)},
            {"top_logprobs", top > 0 ? std::move(all) : Json()},
            {"text_offset", std::move(offsets)}};
}

Json head_body(const AnswerHead& head, const char* object) {
    return {{"id", head.id},
            {"object", object},
            {"created", head.created},
            {"model", head.model},
            {"system_fingerprint", head.fingerprint.empty() ? Json() : Json(head.fingerprint)}};
}

Json logprobs_body(const AnswerHead& head, const AnswerShape& shape,
                   const std::vector<TokenLogprob>& tokens, int64_t& offset) {
    if (!shape.logprobs) return {};
    return head.chat ? chat_logprobs(tokens) : plain_logprobs(tokens, shape.top, offset);
}

Json boxes_body(const AnswerInfo& info) {
    Json boxes = Json::array();
    for (size_t choice = 0; choice < info.answers.size(); ++choice)
        for (const NamedBox& b : parse_boxes(info.answers[choice], 1000, 1000)) {
            Json entry = {
                {"choice", choice},
                {"label", b.label},
                {"box",
                 {rounded(b.box.x1), rounded(b.box.y1), rounded(b.box.x2), rounded(b.box.y2)}},
                {"pixels", nullptr}};
            if (info.images.size() == 1 && info.videos.empty()) {
                const double w = info.images[0].width / 1000.0, h = info.images[0].height / 1000.0;
                entry["pixels"] = {rounded(float(b.box.x1 * w)), rounded(float(b.box.y1 * h)),
                                   rounded(float(b.box.x2 * w)), rounded(float(b.box.y2 * h))};
            }
            boxes.push_back(std::move(entry));
        }
    return boxes;
}

std::string dump(const Json& value) {
    return value.dump(-1, ' ', false, Json::error_handler_t::replace);
}

}  // namespace

Json usage_body(const Usage& u) {
    return {{"prompt_tokens", u.prompt_tokens},
            {"completion_tokens", u.completion_tokens},
            {"total_tokens", u.prompt_tokens + u.completion_tokens},
            {"prompt_tokens_details",
             {{"cached_tokens", u.cached_tokens},
              {"text_tokens", u.prompt_tokens - u.image_tokens},
              {"image_tokens", u.image_tokens},
              {"audio_tokens", 0}}},
            {"completion_tokens_details",
             {{"reasoning_tokens", 0},
              {"audio_tokens", 0},
              {"accepted_prediction_tokens", 0},
              {"rejected_prediction_tokens", 0}}}};
}

Json info_body(const AnswerInfo& info) {
    Json images = Json::array(), videos = Json::array();
    for (const EstimatedPicture& p : info.images)
        images.push_back({{"message", p.place.message},
                          {"part", p.place.part},
                          {"width", p.width},
                          {"height", p.height},
                          {"grid", {p.grid.columns, p.grid.rows}},
                          {"tiles", p.tiles},
                          {"tokens", p.tiles * tokens_per_tile},
                          {"tiles_cached", p.tiles_cached}});
    for (const EstimatedVideo& v : info.videos)
        videos.push_back({{"message", v.place.message},
                          {"part", v.place.part},
                          {"fps", v.size.fps},
                          {"frame_count", v.size.frame_count},
                          {"indices", v.size.indices},
                          {"tiles", v.tiles},
                          {"tokens", v.tiles * tokens_per_tile}});
    return {{"seed", info.seed},
            {"images", std::move(images)},
            {"videos", std::move(videos)},
            {"boxes", boxes_body(info)},
            {"timings",
             {{"queue", info.queue},
              {"fetch", info.fetch},
              {"decode", info.decode},
              {"resize", info.resize},
              {"vit", info.vit},
              {"prefill", info.prefill},
              {"decode_tokens", info.decode_tokens},
              {"ttft", info.ttft}}},
            {"preemptions", info.preemptions}};
}

Json answer_body(const AnswerHead& head, const AnswerShape& shape,
                 const std::vector<Choice>& choices, const Usage& usage, const AnswerInfo* info) {
    Json body = head_body(head, head.chat ? "chat.completion" : "text_completion");
    Json list = Json::array();
    for (const Choice& c : choices) {
        Json choice = {{"index", list.size()}};
        if (head.chat)
            choice["message"] = {
                {"role", "assistant"}, {"content", c.whole.text}, {"refusal", nullptr}};
        else
            choice["text"] = c.whole.text;
        int64_t offset = 0;
        choice["logprobs"] = logprobs_body(head, shape, c.whole.logprobs, offset);
        choice["finish_reason"] = c.finish_reason;
        if (shape.token_ids) choice["token_ids"] = c.whole.ids;
        list.push_back(std::move(choice));
    }
    body["choices"] = std::move(list);
    body["usage"] = usage_body(usage);
    if (info) body["internvl"] = info_body(*info);
    return body;
}

AnswerEvents::AnswerEvents(AnswerHead head, const AnswerShape& shape)
    : head_(std::move(head)),
      shape_(shape),
      unfinished_(shape.choices),
      offsets_(size_t(shape.choices)),
      ids_(size_t(shape.choices)) {}

std::string AnswerEvents::event(int choice, Json&& entry, const AnswerInfo* info) {
    if (shape_.token_ids) entry["token_ids"] = std::exchange(ids_[size_t(choice)], {});
    Json chunk = head_body(head_, head_.chat ? "chat.completion.chunk" : "text_completion");
    chunk["choices"] = Json::array({std::move(entry)});
    if (shape_.usage) chunk["usage"] = nullptr;
    if (info) chunk["internvl"] = info_body(*info);
    return "data: " + dump(chunk) + "\n\n";
}

std::string AnswerEvents::begin() {
    std::string events;
    for (int i = 0; head_.chat && i < shape_.choices; ++i)
        events += event(i, {{"index", i},
                            {"delta", {{"role", "assistant"}, {"content", ""}}},
                            {"logprobs", nullptr},
                            {"finish_reason", nullptr}});
    return events;
}

std::string AnswerEvents::delta(int choice, const Delta& d) {
    std::vector<int>& ids = ids_[size_t(choice)];
    ids.insert(ids.end(), d.ids.begin(), d.ids.end());
    if (d.empty()) return "";
    Json entry = {{"index", choice}};
    if (head_.chat)
        entry["delta"] = {{"content", d.text}};
    else
        entry["text"] = d.text;
    entry["logprobs"] = d.logprobs.empty()
                            ? Json()
                            : logprobs_body(head_, shape_, d.logprobs, offsets_[size_t(choice)]);
    entry["finish_reason"] = nullptr;
    return event(choice, std::move(entry));
}

std::string AnswerEvents::finish(int choice, const std::string& reason, const AnswerInfo* info) {
    --unfinished_;
    Json entry = {{"index", choice}};
    if (head_.chat)
        entry["delta"] = Json::object();
    else
        entry["text"] = "";
    entry["logprobs"] = nullptr;
    entry["finish_reason"] = reason;
    return event(choice, std::move(entry), unfinished_ == 0 ? info : nullptr);
}

std::string AnswerEvents::end(const Usage& usage) {
    std::string events;
    if (shape_.usage) {
        Json chunk = head_body(head_, head_.chat ? "chat.completion.chunk" : "text_completion");
        chunk["choices"] = Json::array();
        chunk["usage"] = usage_body(usage);
        events = "data: " + dump(chunk) + "\n\n";
    }
    return events + "data: [DONE]\n\n";
}

std::string error_event(const RequestError& e) {
    return "data: " + dump(error_body(e)) + "\n\n";
}

Json model_body(const ModelEntry& m) {
    const GenerateOptions& g = m.defaults;
    Json body = {{"id", m.id},
                 {"object", "model"},
                 {"created", m.created},
                 {"owned_by", "internvl"},
                 {"max_model_len", m.max_model_len},
                 {"modalities", {"text", "image", "video"}},
                 {"max_dynamic_patch", m.max_dynamic_patch},
                 {"defaults",
                  {{"temperature", g.do_sample ? rounded(g.temperature) : 0.0},
                   {"top_p", rounded(g.top_p)},
                   {"top_k", g.top_k},
                   {"max_tokens", g.max_new_tokens}}}};
    if (!m.parent.empty()) body["parent"] = m.parent;
    return body;
}

Json models_body(const std::vector<ModelEntry>& models) {
    Json data = Json::array();
    for (const ModelEntry& m : models) data.push_back(model_body(m));
    return {{"object", "list"}, {"data", std::move(data)}};
}

}  // namespace internvl
