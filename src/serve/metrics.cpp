#include "serve/metrics.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cassert>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace internvl {

namespace {

using Buckets = std::vector<double>;
const Buckets long_times{0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1,  2.5,
                         5,     10,   20,    40,   80,  160,  320, 640};
const Buckets short_times{0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075,
                          0.1,   0.15,   0.25,  0.5,  1,    2.5,  5};
const Buckets token_counts{1, 16, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768};
const Buckets tile_counts{1, 2, 3, 4, 5, 7, 9, 10, 13, 16, 25, 41, 64};
const Buckets batch_sizes{1, 2, 4, 8, 16, 32, 64, 128, 256, 512};

struct Definition {
    const char* name;  // after internvl_
    const char* type;
    const char* help;
    std::array<const char*, 4> labels = {};  // those that are there
    const Buckets* buckets = nullptr;

    size_t label_count() const {
        return size_t(std::find(labels.begin(), labels.end(), nullptr) - labels.begin());
    }
};

// clang-format off: one metric a line
const Definition table[] = {
    {"requests_total", "counter", "Requests answered", {"endpoint", "status", "finish"}},
    {"requests_rejected_total", "counter", "Requests refused", {"reason"}},
    {"requests_running", "gauge", "Requests being computed"},
    {"requests_waiting", "gauge", "Requests that wait for their turn"},
    {"requests_preempted", "gauge", "Requests that gave up their place for a while"},
    {"request_duration_seconds",
     "histogram",
     "From the last byte of a request to the end of its answer",
     {"media"},
     &long_times},
    {"time_to_first_token_seconds",
     "histogram",
     "From the last byte of a request to its first token",
     {"media"},
     &long_times},
    {"queue_time_seconds",
     "histogram",
     "Time before the first step of a request",
     {"media"},
     &long_times},
    {"inter_token_latency_seconds",
     "histogram",
     "Time between two tokens of an answer",
     {},
     &short_times},
    {"step_duration_seconds", "histogram", "Time of an engine step", {}, &short_times},
    {"stage_duration_seconds", "histogram", "Time of a stage of a request", {"stage"}, &long_times},
    {"prompt_tokens_total", "counter", "Prompt tokens asked for", {"kind"}},
    {"prefill_tokens_total", "counter", "Prompt tokens computed", {"kind"}},
    {"generation_tokens_total", "counter", "Tokens generated"},
    {"request_prompt_tokens", "histogram", "Prompt tokens of a request", {}, &token_counts},
    {"request_generation_tokens", "histogram", "Generated tokens of a request", {}, &token_counts},
    {"prefix_cache_queried_tokens_total", "counter", "Prompt tokens looked up in the prefix cache"},
    {"prefix_cache_hit_tokens_total", "counter", "Prompt tokens found in the prefix cache"},
    {"image_tiles_total", "counter", "Tiles of pictures and frames", {"source"}},
    {"request_image_tiles", "histogram", "Tiles of a request", {"source"}, &tile_counts},
    {"vit_cache_hits_total", "counter", "Tiles whose rows were known"},
    {"vit_cache_misses_total", "counter", "Tiles that passed through the vision tower"},
    {"vit_cache_evictions_total", "counter", "Tiles whose rows were forgotten"},
    {"vit_cache_bytes", "gauge", "Memory of remembered tiles"},
    {"vit_batch_tiles",
     "histogram",
     "Tiles of one pass through the vision tower",
     {},
     &batch_sizes},
    {"batch_rows", "histogram", "Rows of one pass through the decoder", {}, &batch_sizes},
    {"kv_blocks_total", "gauge", "Blocks of the key-value cache"},
    {"kv_blocks_used", "gauge", "Blocks that sequences hold"},
    {"kv_blocks_cached", "gauge", "Blocks that are only remembered"},
    {"preemptions_total", "counter", "Sequences that gave up their place"},
    {"media_bytes_total", "counter", "Encoded bytes of pictures and videos", {"source"}},
    {"media_refused_total", "counter", "Pictures and videos refused", {"reason"}},
    {"key_requests_total", "counter", "Requests by key", {"key"}},
    {"engine_stalled", "gauge", "Whether there is work and no step ends"},
    {"draining", "gauge", "Whether the service is ending"},
    {"model_loaded", "gauge", "Whether the model is loaded and warm"},
    {"build_info", "gauge", "What is running", {"version", "commit", "device", "dtype"}},
    {"config_reloads_total", "counter", "Configurations read again", {"result"}},
};
// clang-format on

size_t place_of(const char* name) {
    const auto* const entry = std::find_if(std::begin(table), std::end(table), [&](const auto& d) {
        return std::string_view(d.name) == name;
    });
    assert(entry != std::end(table));
    return size_t(entry - table);
}

std::string escaped(const std::string& text) {
    std::string out;
    for (const char c : text) {
        if (c == '\\' || c == '"') out += '\\';
        if (c == '\n')
            out += "\\n";
        else
            out += c;
    }
    return out;
}

std::string labels_text(const std::string& model, const Definition& d,
                        const std::vector<std::string>& values, const std::string& bound = "") {
    std::string text = fmt::format("{{model=\"{}\"", escaped(model));
    for (size_t i = 0; i < d.label_count(); ++i)
        text += fmt::format(",{}=\"{}\"", d.labels[i], escaped(values[i]));
    if (!bound.empty()) text += fmt::format(",le=\"{}\"", bound);
    return text + "}";
}

// What /proc says of this process, under the names that all exporters use.
std::string process_text() {
    std::ifstream stat("/proc/self/stat");
    std::string line;
    std::getline(stat, line);
    std::istringstream fields(line.substr(std::min(line.size(), line.rfind(')') + 2)));
    std::vector<std::string> parts;
    for (std::string part; fields >> part;) parts.push_back(part);
    if (parts.size() < 22) return "";
    const double ticks = double(::sysconf(_SC_CLK_TCK));
    double boot = 0;
    std::ifstream system("/proc/stat");
    for (std::string word; system >> word;)
        if (word == "btime") {
            system >> boot;
            break;
        }
    size_t files = 0;
    std::error_code error;
    for (auto at = std::filesystem::directory_iterator("/proc/self/fd", error);
         !error && at != std::filesystem::directory_iterator(); at.increment(error))
        ++files;
    const auto metric = [](const char* name, const char* type, double value) {
        return fmt::format("# TYPE {} {}\n{} {:.15g}\n", name, type, name, value);
    };
    return metric("process_resident_memory_bytes", "gauge",
                  std::stod(parts[21]) * double(::sysconf(_SC_PAGESIZE))) +
           metric("process_cpu_seconds_total", "counter",
                  (std::stod(parts[11]) + std::stod(parts[12])) / ticks) +
           metric("process_open_fds", "gauge", double(files)) +
           metric("process_start_time_seconds", "gauge", boot + std::stod(parts[19]) / ticks);
}

}  // namespace

Metrics::Metrics(std::string model) : model_(std::move(model)), families_(std::size(table)) {
    for (size_t i = 0; i < std::size(table); ++i)  // what has no labels is there from the start
        if (table[i].label_count() == 0) series(table[i].name, {});
}

Metrics::Series& Metrics::series(const char* name, const Labels& labels) {
    const size_t place = place_of(name);
    assert(labels.size() == table[place].label_count());
    const auto [entry, fresh] = families_[place].try_emplace(labels);
    if (fresh && table[place].type == std::string_view("histogram"))
        entry->second.buckets.resize(table[place].buckets->size() + 1);
    return entry->second;
}

void Metrics::add(const char* name, const Labels& labels, double value) {
    const std::lock_guard lock(mutex_);
    series(name, labels).value += value;
}

void Metrics::set(const char* name, double value, const Labels& labels) {
    const std::lock_guard lock(mutex_);
    series(name, labels).value = value;
}

void Metrics::observe(const char* name, double value, const Labels& labels) {
    const std::lock_guard lock(mutex_);
    Series& s = series(name, labels);
    const Buckets& bounds = *table[place_of(name)].buckets;
    s.value += value;
    ++s.buckets[size_t(std::lower_bound(bounds.begin(), bounds.end(), value) - bounds.begin())];
}

double Metrics::value(const char* name, const Labels& labels) const {
    const std::lock_guard lock(mutex_);
    const Family& family = families_[place_of(name)];
    const auto found = family.find(labels);
    return found == family.end() ? 0 : found->second.value;
}

std::string Metrics::text() const {
    const std::lock_guard lock(mutex_);
    std::string out;
    for (size_t i = 0; i < std::size(table); ++i) {
        const Definition& d = table[i];
        out += fmt::format("# HELP internvl_{} {}\n# TYPE internvl_{} {}\n", d.name, d.help, d.name,
                           d.type);
        for (const auto& [labels, s] : families_[i]) {
            if (s.buckets.empty()) {
                out += fmt::format("internvl_{}{} {:.15g}\n", d.name,
                                   labels_text(model_, d, labels), s.value);
                continue;
            }
            uint64_t count = 0;
            for (size_t b = 0; b < s.buckets.size(); ++b) {
                count += s.buckets[b];
                const std::string bound =
                    b < d.buckets->size() ? fmt::format("{:g}", (*d.buckets)[b]) : "+Inf";
                out += fmt::format("internvl_{}_bucket{} {}\n", d.name,
                                   labels_text(model_, d, labels, bound), count);
            }
            const std::string all = labels_text(model_, d, labels);
            out += fmt::format("internvl_{}_sum{} {:.15g}\ninternvl_{}_count{} {}\n", d.name, all,
                               s.value, d.name, all, count);
        }
    }
    return out + process_text();
}

std::vector<std::string> Metrics::names() {
    std::vector<std::string> all{"process_resident_memory_bytes", "process_cpu_seconds_total",
                                 "process_open_fds", "process_start_time_seconds"};
    for (const Definition& d : table) {
        const std::string name = std::string("internvl_") + d.name;
        if (d.type != std::string_view("histogram")) {
            all.push_back(name);
            continue;
        }
        for (const char* suffix : {"_bucket", "_sum", "_count"}) all.push_back(name + suffix);
    }
    return all;
}

}  // namespace internvl
