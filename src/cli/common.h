#pragma once
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <functional>
#include <optional>
#include <string>
#include <vector>

#include "internvl/internvl.h"

namespace internvl::cli {

// A verb adds its options to a sub-command and hands back what to run once they are parsed.
using Run = std::function<int()>;
struct Verb {
    const char* name;
    const char* summary;
    Run (*declare)(CLI::App&);
    bool own_log = false;  // it declares --log-level itself
};
extern const std::vector<Verb> verbs;

Run declare_chat(CLI::App&);
Run declare_batch(CLI::App&);
Run declare_serve(CLI::App&);
Run declare_tiles(CLI::App&);
Run declare_tokenize(CLI::App&);
Run declare_inspect(CLI::App&);
Run declare_trace(CLI::App&);
Run declare_verify(CLI::App&);
Run declare_bench(CLI::App&);
Run declare_plan(CLI::App&);
Run declare_pull(CLI::App&);
Run declare_synth(CLI::App&);
Run declare_quantize(CLI::App&);

// Options that several verbs share, each declared once.
struct ModelOptions {
    std::string model;
    // Verbs that measure or compare compute everything anew.
    LoadOptions load = {.vision_cache_mb = 0, .prefix_cache_mb = 0};
    std::string device = "auto", int8_skip;

    void declare(CLI::App&, bool loads_weights, const std::string& usual_quant = "none");
    void declare_quant(CLI::App&);
    void declare_caches(CLI::App&);  // for verbs that answer
    // With --compat reference, int8 is the original's LLM.int8.
    LoadOptions for_compat(bool reference) const;
    void check() const;  // refuses by name what this version cannot do
};

struct GenerationFlags {
    GenerateOptions options;
    bool greedy = false;
    std::optional<int> max_new_tokens;

    void declare(CLI::App&);
    // `reference`: an absent --max-new-tokens means the reference's 20-token default (spec 6.4).
    GenerateOptions resolved(bool reference) const;
};

struct PictureFlags {
    ImageOptions options;
    std::optional<int> max_num;
    bool no_thumbnail = false, no_tiling = false;

    void declare(CLI::App&);
    // `usual_max_num`: where the user names none.
    ImageOptions resolved(int usual_max_num = 12) const;
};

struct VideoFlags {
    int num_segments = 8;
    std::string bound;  // START,END

    void declare(CLI::App&);
    VideoOptions resolved(const PictureFlags&) const;
};

// An option that takes one value each time; what follows may be the model.
CLI::Option* repeatable(CLI::Option*);
// Such an option that takes files.
void declare_files(CLI::App&, const char* name, std::vector<std::string>& files, const char* text);

// What a question is about: pictures first, then videos, each in the order given.
struct MediaFlags {
    std::vector<std::string> images, videos;
    PictureFlags picture;
    VideoFlags video;
    int total_max_num = 0;

    void declare(CLI::App&);
    std::vector<Media> open() const;
};

// --compat reference
struct CompatFlag {
    std::string compat;
    void declare(CLI::App&, const char* fallback = "");
    bool reference() const;
};

std::string read_input(const std::string& file);  // a file, or stdin for "-"
void print_line(const std::string& text);         // to stdout; throws BrokenPipe when nobody reads
std::string path_beside(const std::string& file,
                        const std::string& name);  // `name` relative to where `file` lies

// A line on stderr that is written over, on a terminal only: how far the look at the pictures has
// come.
std::function<void(int done, int tiles)> tile_progress(bool quiet);

// The reader of our output went away: leave quietly.
struct BrokenPipe {};

// Set by Ctrl-C; the model that is to be stopped, if any, hears of it too.
void stop_on_interrupt(Model* model);
bool interrupted();
void clear_interrupt();

}  // namespace internvl::cli
