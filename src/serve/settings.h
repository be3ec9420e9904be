#pragma once
#include <cstdint>
#include <string>
#include <utility>
#include <variant>
#include <vector>

#include "internvl/options.h"

namespace internvl {

// Everything that `internvl serve` can be told (docs/serving.md has the table).
struct Settings {
    // What is served.
    std::string model;
    std::vector<std::string> served_model_name;
    int64_t threads = 0;
    std::string dtype = "auto", quant = "none", kv_cache = "auto", weight_cache = {};
    bool warmup = true;

    // Where it listens, and to whom.
    std::string host = "127.0.0.1", metrics_listen = {};
    int64_t port = 23333;
    std::vector<std::string> listen;  // unix:PATH
    bool allow_unauthenticated = false;
    std::string api_key_file;
    std::vector<std::string> allowed_host, cors_origin, trusted_proxy;
    int64_t rpm = 0, tpm = 0, concurrency = 0;  // of each key or client; 0 = no limit

    // HTTP.
    int64_t max_body_bytes = 128 << 20, max_bodies_bytes = 1 << 30, max_connections = 1024;
    double write_timeout = 30, sse_keepalive = 15, drain_timeout = 25, stall_timeout = 60;

    // Answers.
    int64_t max_model_len = 0;  // 0: the model's own
    int64_t default_max_tokens = 1024, max_n = 8, max_tokenize_bytes = 4 << 20;
    bool clamp_max_tokens = false, strict_fields = false, allow_control_tokens = false;
    std::string system_prompt;
    double request_timeout = 540;

    // The engine.
    int64_t max_batch = 32, max_queue = 64, prefill_chunk = 256, kv_cache_mb = 0;
    double max_queue_seconds = 300, step_budget_ms = 200;
    bool prefix_cache = true, deterministic = true;
    int64_t vit_cache_bytes = 256 << 20;
    std::string cache_scope = "auto";

    // Pictures and videos.
    int64_t max_dynamic_patch = 0;  // 0: the checkpoint's
    int64_t max_tiles = 40, max_frames = 128, max_images = 32, max_videos = 1;
    std::string detail_map = "internvl", media_url = "all", media_root = {}, media_proxy = {};
    std::string media_sandbox = "auto";
    std::vector<std::string> media_allow_host, media_deny_host, media_allow_net, media_port;
    int64_t media_workers = 0, max_picture_bytes = 20 << 20, max_video_bytes = 96 << 20;
    int64_t max_picture_pixels = 100'000'000, max_request_pixels = 200'000'000;
    int64_t max_decoded_bytes = 1 << 30;
    bool auto_orient = false;

    // What is written down.
    std::string log_level = "info", log_file = {}, log_format = "json";
    bool log_prompts = false;
};

// One of them under its name: what flags, environment, file and documentation go by.
struct Setting {
    const char* name;   // as the flag is called, without the dashes
    const char* alias;  // another flag for it, "" for none
    const char* group;
    const char* help;
    std::variant<bool*, int64_t*, double*, std::string*, std::vector<std::string>*> value;
    // Of numbers: the range. Of texts: the words, comma-separated, "" for any.
    double low = 0, high = 1e15;
    const char* words = "";
    bool on_off = false;  // a truth value that is told by a word, not by its flag alone
};
std::vector<Setting> all_settings(Settings&);

// Values as they were typed, by name of the setting.
using TypedSettings = std::vector<std::pair<std::string, std::vector<std::string>>>;

// Flags over environment (INTERNVL_NAME) over file (TOML, "" for none) over what Settings says.
// Throws UsageError.
Settings load_settings(const TypedSettings& flags, const std::string& file);
std::string print_settings(Settings);  // as TOML, without secrets

}  // namespace internvl
