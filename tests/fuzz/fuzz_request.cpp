// Bodies of all endpoints are understood or refused with a code; what is understood makes a prompt.
#include <cmath>

#include "base/error.h"
#include "serve/completions_request.h"
#include "serve/estimate.h"
#include "serve/openai.h"

using namespace internvl;

namespace {

void check(const RequestError& e) {
    if (e.code.empty() || e.status < 400 || error_body(e).empty()) __builtin_trap();
}

template <class Parse>
void attempt(const Parse& parse) {
    try {
        parse();
    } catch (const RequestError& e) {
        check(e);
    }
}

void chat(const nlohmann::json& body, const RequestDefaults& defaults) {
    std::vector<std::string> ignored;
    ChatRequest r = parse_chat_request(body, defaults, ignored);
    const GenerateOptions& g = r.answer.generate;
    if (r.messages.empty() || r.media.size() != r.places.size() || g.max_new_tokens < 1 ||
        !(g.temperature > 0) || !(g.top_p > 0 && g.top_p <= 1) || r.answer.n < 1 ||
        r.answer.n > defaults.limits.max_n)
        __builtin_trap();
    ignored_header(ignored);
    for (const MediaPart& m : r.media) {
        const ImageOptions& o = m.kind == MediaPart::Kind::video ? m.video.image : m.image;
        if (o.min_num < 1 || o.min_num > o.max_num || o.max_num > defaults.limits.max_tiles)
            __builtin_trap();
        const int frames = frames_of(m, 25, 100, defaults.limits.max_frames);
        if (frames < 1 || frames > defaults.limits.max_frames) __builtin_trap();
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    RequestDefaults defaults = service_defaults();
    defaults.random_seed = false;
    nlohmann::json body;
    try {
        body = parse_request_json({reinterpret_cast<const char*>(data), size});
    } catch (const RequestError& e) {
        if (e.code != "invalid_json") __builtin_trap();
        return 0;
    }
    attempt([&] { chat(body, defaults); });
    attempt([&] {
        std::vector<std::string> ignored;
        if (parse_completions_request(body, defaults, ignored).prompts.empty()) __builtin_trap();
    });
    attempt([&] { parse_tokenize_request(body, defaults); });
    attempt([&] { parse_detokenize_request(body, defaults.limits); });
    attempt([&] {
        const EstimateRequest r = parse_estimate_request(body, defaults);
        if (!r.chat && r.media.size() != r.sizes.size()) __builtin_trap();
    });
    FileDefaults files;
    files.folder = "/nonexistent";
    attempt([&] { parse_file_request(body, files); });
    return 0;
}
