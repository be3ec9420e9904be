#include "serve/settings.h"

#include <fmt/format.h>
#include <unistd.h>

#include <toml++/toml.h>
#include <algorithm>
#include <charconv>
#include <sstream>

#include "base/error.h"

namespace internvl {

// clang-format off: one setting a line
// long: a table
std::vector<Setting> all_settings(Settings& s) {
    const char* model = "Model";
    const char* access = "Access";
    const char* http = "HTTP";
    const char* answers = "Answers";
    const char* engine = "Scheduling";
    const char* media = "Media";
    const char* log = "Log";
    return {
        {"model", "", model, "A folder, a repository id in the Hugging Face cache, or demo",
         &s.model},
        {"served-model-name", "", model,
         "Names that requests may use, the first is listed (comma-separated)",
         &s.served_model_name},
        {"threads", "", model, "Threads that compute (0: the cores this process may use)",
         &s.threads, 0, 4096},
        {"dtype", "", model, "What is computed in", &s.dtype, 0, 0, "auto,bf16,fp16,fp32"},
        {"quant", "", model, "Weights in fewer bits", &s.quant, 0, 0, "none,int8,int4"},
        {"kv-cache", "", model, "Keys and values as computed, or in half the memory", &s.kv_cache,
         0, 0, "auto,int8"},
        {"weight-cache", "", model,
         "Folder that keeps packed weights, so that the next start is quick", &s.weight_cache},
        {"warmup", "", model, "Compute something before the service is ready", &s.warmup, 0, 1, "",
         true},
        {"host", "server-name", access, "Address to listen on", &s.host},
        {"port", "server-port", access, "Port to listen on; 0 takes a free one", &s.port, 0, 65535},
        {"listen", "", access, "Listen on a unix socket too: unix:PATH", &s.listen},
        {"metrics-listen", "", access, "ADDRESS:PORT that serves /metrics without a key",
         &s.metrics_listen},
        {"allow-unauthenticated", "", access, "Serve other machines without keys",
         &s.allow_unauthenticated},
        {"api-key-file", "", access, "Keys, one name:key[:options] a line", &s.api_key_file},
        {"allowed-host", "", access, "Host names that are ours, besides the loopback's",
         &s.allowed_host},
        {"cors-origin", "", access, "Origins whose pages may call, such as https://chat.example",
         &s.cors_origin},
        {"trusted-proxy", "", access, "Networks whose X-Forwarded-For is believed (CIDR)",
         &s.trusted_proxy},
        {"rpm", "", access, "Requests a minute of each key or client; 0: no limit", &s.rpm, 0, 1e9},
        {"tpm", "", access, "Tokens a minute of each key or client; 0: no limit", &s.tpm, 0, 1e12},
        {"concurrency", "", access, "Requests at a time of each key or client; 0: no limit",
         &s.concurrency, 0, 1e6},
        {"max-body-bytes", "", http, "Largest request body", &s.max_body_bytes, 1024, 1e12},
        {"max-bodies-bytes", "", http, "Largest sum of the bodies being received",
         &s.max_bodies_bytes, 1024, 1e13},
        {"max-connections", "", http, "Connections at a time", &s.max_connections, 1, 1e6},
        {"write-timeout", "", http, "Seconds that a client may read nothing", &s.write_timeout,
         0.01, 86400},
        {"sse-keepalive", "", http, "Seconds of silence before a comment is streamed",
         &s.sse_keepalive, 0.01, 86400},
        {"drain-timeout", "", http, "Seconds that running answers get when the service ends",
         &s.drain_timeout, 0, 86400},
        {"stall-timeout", "", http, "Seconds without a step that count as a stall",
         &s.stall_timeout, 0.01, 86400},
        {"max-model-len", "session-len", answers,
         "Longest prompt and answer together in tokens; 0: the model's", &s.max_model_len, 0, 1e7},
        {"default-max-tokens", "", answers, "Longest answer of requests that name none",
         &s.default_max_tokens, 1, 1e7},
        {"clamp-max-tokens", "", answers, "Shorten answers that would not fit, instead of refusing",
         &s.clamp_max_tokens},
        {"max-n", "", answers, "Most choices of a request", &s.max_n, 1, 128},
        {"max-tokenize-bytes", "", answers, "Longest text for /tokenize", &s.max_tokenize_bytes, 1,
         1e9},
        {"strict-fields", "", answers, "Refuse fields that are not known", &s.strict_fields},
        {"allow-control-tokens", "", answers,
         "Let control strings in messages act, as the reference does", &s.allow_control_tokens},
        {"system-prompt", "", answers, "System message instead of the model's own",
         &s.system_prompt},
        {"request-timeout", "", answers, "Seconds that a request may take", &s.request_timeout,
         0.01, 86400},
        {"max-batch", "", engine, "Answers in the making at a time", &s.max_batch, 1, 1024},
        {"max-queue", "", engine, "Requests that may wait; 0: any number", &s.max_queue, 0, 1e6},
        {"max-queue-seconds", "", engine, "Longest wait that is accepted, as estimated; 0: any",
         &s.max_queue_seconds, 0, 86400},
        {"prefill-chunk", "", engine, "Prompt tokens of one pass", &s.prefill_chunk, 16, 65536},
        {"step-budget-ms", "", engine,
         "Time of a step for prompts and pictures while others stream", &s.step_budget_ms, 1, 1e6},
        {"kv-cache-mb", "", engine, "Memory of keys and values; 0: as the machine allows",
         &s.kv_cache_mb, 0, 1e7},
        {"prefix-cache", "", engine, "Reuse what prompts have in common", &s.prefix_cache, 0, 1, "",
         true},
        {"vit-cache-bytes", "", engine, "Memory of what pictures became; 0: none",
         &s.vit_cache_bytes, 0, 1e13},
        {"cache-scope", "", engine,
         "Whether keys share caches; auto: not when there are two or more", &s.cache_scope, 0, 0,
         "auto,global,key"},
        {"deterministic", "", engine, "Equal requests get equal answers in any company",
         &s.deterministic, 0, 1, "", true},
        {"max-dynamic-patch", "", media,
         "Tile limit of a picture that names none; 0: the checkpoint's", &s.max_dynamic_patch, 0,
         40},
        {"max-tiles", "", media, "Highest tile limit that a request may name", &s.max_tiles, 1,
         1024},
        {"max-frames", "", media, "Most frames of a video", &s.max_frames, 1, 4096},
        {"max-images", "", media, "Most pictures of a request", &s.max_images, 0, 1024},
        {"max-videos", "", media, "Most videos of a request", &s.max_videos, 0, 64},
        {"detail-map", "", media, "What `detail` means", &s.detail_map, 0, 0, "internvl,lmdeploy"},
        {"auto-orient", "", media, "Turn pictures as EXIF says", &s.auto_orient},
        {"media-url", "", media, "Which addresses are fetched", &s.media_url, 0, 0,
         "https,all,off"},
        {"media-allow-host", "", media, "Only these hosts (NAME or *.SUFFIX)", &s.media_allow_host},
        {"media-deny-host", "", media, "Never these hosts", &s.media_deny_host},
        {"media-allow-net", "", media, "Private networks that may be fetched from (CIDR)",
         &s.media_allow_net},
        {"media-port", "", media, "Further ports that may be fetched from", &s.media_port},
        {"media-proxy", "", media, "Proxy of all fetches", &s.media_proxy},
        {"media-root", "", media, "Folder that file: addresses may name", &s.media_root},
        {"media-sandbox", "", media, "Decode in a confined process", &s.media_sandbox, 0, 0,
         "auto,none"},
        {"media-workers", "", media, "Processes that decode; 0: up to 4", &s.media_workers, 0, 64},
        {"max-picture-bytes", "", media, "Largest encoded picture", &s.max_picture_bytes, 1, 1e10},
        {"max-video-bytes", "", media, "Largest encoded video", &s.max_video_bytes, 1, 1e11},
        {"max-picture-pixels", "", media, "Most pixels of a picture", &s.max_picture_pixels, 1,
         1e11},
        {"max-request-pixels", "", media, "Most pixels of the pictures of a request",
         &s.max_request_pixels, 1, 1e12},
        {"max-decoded-bytes", "", media, "Decoded pixels of all requests at a time",
         &s.max_decoded_bytes, 1, 1e13},
        {"log-level", "", log, "What is written", &s.log_level, 0, 0,
         "debug,info,warning,error,off"},
        {"log-file", "", log, "File of the log instead of stderr; opened anew on SIGHUP",
         &s.log_file},
        {"log-format", "", log, "One JSON object a line, or plain text", &s.log_format, 0, 0,
         "json,text"},
        {"log-prompts", "", log, "Write what requests say; for debugging", &s.log_prompts},
    };
}

// clang-format on

static std::vector<std::string> split(const std::string& text, char mark) {
    std::vector<std::string> parts;
    std::stringstream in(text);
    for (std::string part; std::getline(in, part, mark);)
        if (!part.empty()) parts.push_back(part);
    return parts;
}

static bool truth(const std::string& text, const std::string& where) {
    for (const char* yes : {"true", "on", "1", "yes"})
        if (text == yes) return true;
    for (const char* no : {"false", "off", "0", "no"})
        if (text == no) return false;
    throw UsageError("not a truth value", "on or off", text, where);
}

template <class T>
static T number(const Setting& s, const std::string& text, const std::string& where) {
    T value{};
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size())
        throw UsageError("not a number", std::is_integral_v<T> ? "a whole number" : "a number",
                         text, where);
    if (!(double(value) >= s.low && double(value) <= s.high))
        throw UsageError("out of range", fmt::format("{} to {}", s.low, s.high), text, where);
    return value;
}

static void assign(const Setting& s, const std::vector<std::string>& typed,
                   const std::string& where) {
    const std::string last = typed.empty() ? "" : typed.back();
    if (auto* flag = std::get_if<bool*>(&s.value)) **flag = truth(last, where);
    if (auto* whole = std::get_if<int64_t*>(&s.value)) **whole = number<int64_t>(s, last, where);
    if (auto* real = std::get_if<double*>(&s.value)) **real = number<double>(s, last, where);
    if (auto* text = std::get_if<std::string*>(&s.value)) {
        const auto words = split(s.words, ',');
        if (!words.empty() && std::find(words.begin(), words.end(), last) == words.end())
            throw UsageError("unknown word", s.words, last, where);
        **text = last;
    }
    if (auto* list = std::get_if<std::vector<std::string>*>(&s.value)) {
        (*list)->clear();
        for (const std::string& entry : typed)
            for (std::string& part : split(entry, ',')) (*list)->push_back(std::move(part));
    }
}

static const Setting& find(const std::vector<Setting>& all, const std::string& name,
                           const std::string& where) {
    for (const Setting& s : all)
        if (name == s.name) return s;
    throw UsageError("no such setting", "a name from internvl serve --help", name, where);
}

static std::vector<std::string> toml_words(const toml::node& node, const std::string& where) {
    if (const auto text = node.value_exact<std::string>()) return {*text};
    if (const auto whole = node.value_exact<int64_t>()) return {std::to_string(*whole)};
    if (const auto real = node.value_exact<double>()) return {fmt::format("{}", *real)};
    if (const auto flag = node.value_exact<bool>()) return {*flag ? "on" : "off"};
    const toml::array* list = node.as_array();
    if (!list) throw UsageError("a setting has the wrong type", "a value or a list", "", where);
    std::vector<std::string> words;
    for (const toml::node& entry : *list)
        for (std::string& word : toml_words(entry, where)) words.push_back(std::move(word));
    return words;
}

static void apply_file(const std::vector<Setting>& all, const std::string& file) {
    try {
        const toml::table table = toml::parse_file(file);
        for (const auto& [key, node] : table) {
            std::string name(key.str());
            std::replace(name.begin(), name.end(), '_', '-');
            const std::string where = fmt::format("{} in {}", name, file);
            assign(find(all, name, file), toml_words(node, where), where);
        }
    } catch (const toml::parse_error& e) {
        throw UsageError("the configuration file is malformed", "TOML",
                         std::string(e.description()),
                         fmt::format("{}, line {}", file, e.source().begin.line));
    }
}

// Other parts of the program read these.
static bool known_elsewhere(const std::string& name) {
    for (const char* other : {"INTERNVL_API_KEYS", "INTERNVL_CPU", "INTERNVL_CONFIG"})
        if (name == other) return true;
    return false;
}

static void apply_environment(const std::vector<Setting>& all) {
    for (char** entry = environ; *entry; ++entry) {
        const std::string text = *entry;
        const size_t equals = text.find('=');
        const std::string variable = text.substr(0, equals);
        if (!variable.starts_with("INTERNVL_") || known_elsewhere(variable)) continue;
        std::string name = variable.substr(9);
        for (char& c : name) c = c == '_' ? '-' : char(std::tolower(c));
        assign(find(all, name, variable), {text.substr(equals + 1)}, variable);
    }
}

Settings load_settings(const TypedSettings& flags, const std::string& file) {
    Settings settings;
    const std::vector<Setting> all = all_settings(settings);
    if (!file.empty()) apply_file(all, file);
    apply_environment(all);
    for (const auto& [name, typed] : flags) assign(find(all, name, "flags"), typed, "--" + name);
    return settings;
}

static std::string quoted(const std::string& text) {
    std::ostringstream out;
    out << toml::value<std::string>(text);
    return out.str();
}

std::string print_settings(Settings settings) {
    // What stands before the host of a proxy may be a password.
    if (const size_t at = settings.media_proxy.rfind('@'); at != std::string::npos)
        settings.media_proxy = "***" + settings.media_proxy.substr(at);
    std::string text;
    for (const Setting& s : all_settings(settings)) {
        text += fmt::format("{} = ", s.name);
        if (auto* flag = std::get_if<bool*>(&s.value)) text += **flag ? "true" : "false";
        if (auto* whole = std::get_if<int64_t*>(&s.value)) text += std::to_string(**whole);
        if (auto* real = std::get_if<double*>(&s.value)) text += fmt::format("{}", **real);
        if (auto* word = std::get_if<std::string*>(&s.value)) text += quoted(**word);
        if (auto* list = std::get_if<std::vector<std::string>*>(&s.value)) {
            std::string entries;
            for (const std::string& entry : **list)
                entries += (entries.empty() ? "" : ", ") + quoted(entry);
            text += "[" + entries + "]";
        }
        text += '\n';
    }
    return text;
}

}  // namespace internvl
