// A first way through, until the parts of the service are joined: text in, text out.
#include "serve/interim.h"

#include <fmt/format.h>

#include <ctime>

#include "api/data.h"
#include "base/error.h"
#include "serve/answers.h"
#include "serve/openai.h"
#include "serve/page.h"
#include "serve/request_error.h"

namespace internvl {
using Json = nlohmann::ordered_json;

nlohmann::json parse_request_json(std::string_view body) {
    try {
        nlohmann::json j = parse_json(body, "body");
        if (!j.is_object()) throw Error("not an object");
        return j;
    } catch (const Error& e) {
        throw RequestError("invalid_json", "", e.what());
    }
}
std::optional<HttpResponse> page_file(const std::string&) { return std::nullopt; }
std::string docs_page(Settings) { return "docs"; }
Json openapi(const std::string&) { return Json::object(); }

struct Answers::State {
    Engine& engine;
    std::vector<std::string> served;
    Router& router;
    EngineThread thread;
    int64_t created = std::time(nullptr);
};

static LoopOptions loop_options(const Settings& s) {
    LoopOptions o;
    o.max_sequences = int(s.max_batch);
    o.cache_tokens = 16384;
    o.chunk = s.prefill_chunk;
    o.step_budget_ms = s.step_budget_ms;
    return o;
}
Answers::Answers(Engine& e, const Settings& s, std::vector<std::string> served, Router& r, Metrics&, AccessLog&)
    : state_(new State{e, std::move(served), r, EngineThread(e, loop_options(s))}) {}
Answers::~Answers() = default;

struct Running {
    Session session;
    Task task;
    std::shared_ptr<Call> call;
};

void Answers::chat(const std::shared_ptr<Call>& call, const nlohmann::json& original) {
    nlohmann::json body = original;
    const bool stream = body.value("stream", false);
    body.erase("stream");
    ChatRequest request = parse_chat_request(body, {});
    auto run = std::make_shared<Running>(Running{Session(state_->engine, state_->engine.system_message(), false), {}, call});
    const std::string id = "chatcmpl-" + random_id(24);
    const Round& last = request.dialogue.rounds.back();
    const Json head = {{"id", id}, {"object", "chat.completion.chunk"}, {"created", state_->created}, {"model", request.model}};
    const auto event = [head](Json delta, Json finish) {
        Json chunk = head;
        chunk["choices"] = {{{"index", 0}, {"delta", delta}, {"logprobs", nullptr}, {"finish_reason", finish}}};
        return "data: " + chunk.dump() + "\n\n";
    };
    const auto on_text = [call, stream, event](std::string_view text) {
        if (stream) call->write(event({{"content", text}}, nullptr));
        return true;
    };
    run->task = run->session.begin(last.question, pictures_of(last.media), request.dialogue.generate, false, on_text);
    Generation g = std::move(run->task.generation);
    if (stream) {
        call->record.status = 200;
        call->start({.type = "text/event-stream; charset=utf-8"});
        call->write(event({{"role", "assistant"}, {"content", ""}}, nullptr));
    }
    g.on_end = [run, call, request, id, stream, event, created = state_->created](Answer a) {
        Result r = to_result(run->session.finish(run->task, a));
        call->record.finish = r.finish_reason;
        call->record.prompt_tokens = int64_t(r.prompt_ids.size());
        if (!stream) return Router::reply(*call, chat_completion(r, {request.model, id, created, false}));
        call->write(event(Json::object(), r.finish_reason));
        call->write("data: [DONE]\n\n");
        call->finish();
    };
    const uint64_t number = state_->thread.submit(std::move(g));
    call->on_gone([this, number] { state_->thread.cancel(number); });
}
void Answers::completions(const std::shared_ptr<Call>& c, const nlohmann::json&) { Router::reply(*c, {}); }
void Answers::tokenize(const std::shared_ptr<Call>& c, const nlohmann::json&) { Router::reply(*c, {}); }
void Answers::detokenize(const std::shared_ptr<Call>& c, const nlohmann::json&) { Router::reply(*c, {}); }
void Answers::estimate(const std::shared_ptr<Call>& c, const nlohmann::json&) { Router::reply(*c, {}); }
void Answers::input_tokens(const std::shared_ptr<Call>& c, const nlohmann::json&) { Router::reply(*c, {}); }
void Answers::estimate_query(const std::shared_ptr<Call>& c) { Router::reply(*c, {}); }
Json Answers::models() const { return {{"object", "list"}, {"data", {*model(state_->served[0])}}}; }
std::optional<Json> Answers::model(const std::string& id) const {
    if (id != state_->served[0]) return std::nullopt;
    return Json{{"id", id}, {"object", "model"}, {"created", state_->created}, {"owned_by", "internvl"}};
}
void Answers::warm_up() {}
void Answers::end_all() { state_->thread.cancel_all(); }
double Answers::stalled_s() const { return state_->thread.stalled_s(); }
void Answers::count() const {}

}  // namespace internvl
