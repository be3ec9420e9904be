#include "io/pull.h"

#include <sys/ioctl.h>
#include <unistd.h>

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>

#include "base/error.h"
#include "base/json.h"
#include "cli/common.h"
#include "io/hub.h"

namespace internvl::cli {

namespace {

struct PullFlags {
    PullOptions pull;
    double timeout = 30;
    bool json = false, quiet = false;
};

std::string size_text(double bytes) {
    constexpr const char* units[] = {"bytes", "kB", "MB", "GB", "TB"};
    size_t unit = 0;
    for (; bytes >= 1000 && unit + 1 < std::size(units); ++unit) bytes /= 1000;
    return fmt::format("{:.{}f} {}", bytes, unit && bytes < 100 ? 1 : 0, units[unit]);
}

std::string time_text(double seconds) {
    const auto s = int64_t(std::min(std::ceil(seconds), 359'999.0));
    return s < 60 ? fmt::format("{} s", s)
                  : fmt::format("{}:{:02}:{:02}", s / 3600, s / 60 % 60, s % 60);
}

int percent(int64_t have, int64_t bytes) {
    return bytes > 0 ? int(100 * (double(have) / double(bytes))) : 100;
}

// What stderr shows while files come: on a terminal a few lines that are written over, elsewhere
// a line for each file that is there. No colours, so NO_COLOR asks for nothing.
class Display {
  public:
    Display(bool quiet, std::string repository)
        : quiet_(quiet), repository_(std::move(repository)) {
        const char* kind = std::getenv("TERM");
        terminal_ = !quiet && isatty(STDERR_FILENO) && kind && std::string(kind) != "dumb";
    }
    ~Display() { say("", false); }

    void planned(const Pulled& plan, const std::vector<FileProgress>& files) {
        const Selection& s = plan.selection;
        say(fmt::format("{} at {}: {} files, {}; {} of them to fetch, {}", repository_,
                        plan.commit.substr(0, 12), s.wanted.size(), size_text(double(plan.bytes)),
                        files.size(), size_text(double(plan.fetched))));
        if (!s.skipped.empty()) say(skipped_text(s.skipped));
        if (!s.loadable)
            say("no safetensors are there: these weights need to be converted before use");
        seen_.assign(files.size(), false);
        before_ = sum(files);
    }

    void progress(const std::vector<FileProgress>& files) {
        if (quiet_) return;
        for (size_t i = 0; i < files.size(); ++i)
            if (!seen_[i] && files[i].state == FileProgress::State::done) {
                seen_[i] = true;
                say(fmt::format("fetched {} ({})", files[i].name,
                                size_text(double(files[i].bytes))));
            }
        if (terminal_) draw(files);
    }

    // A line that stays, above those that are written over.
    void say(const std::string& text, bool line = true) {
        if (quiet_) return;
        std::string out = erase();
        if (line) out += text + "\n";
        std::fputs(out.c_str(), stderr);
        std::fflush(stderr);
    }

  private:
    static int64_t sum(const std::vector<FileProgress>& files) {
        int64_t have = 0;
        for (const FileProgress& file : files) have += file.have;
        return have;
    }

    static std::string skipped_text(const std::vector<RepositoryFile>& files) {
        constexpr size_t most = 5;
        std::string text;
        int64_t bytes = 0;
        for (size_t i = 0; i < files.size(); ++i) {
            if (i < most) text += (i ? ", " : "") + files[i].name;
            bytes += files[i].bytes;
        }
        if (files.size() > most) text += fmt::format(" and {} more", files.size() - most);
        return fmt::format("left out: {} ({}); --include takes them", text,
                           size_text(double(bytes)));
    }

    std::string erase() {
        const std::string codes = lines_ ? fmt::format("\r\033[{}A\033[J", lines_) : "";
        lines_ = 0;
        return codes;
    }

    void draw(const std::vector<FileProgress>& files) {
        winsize size{};
        const bool known = ioctl(STDERR_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0;
        const size_t columns = known ? size.ws_col - 1 : 79;
        std::string out = erase();
        const auto add = [&](const std::string& text) {
            out += text.substr(0, columns) + "\n";
            ++lines_;
        };
        int64_t total = 0;
        for (const FileProgress& file : files) {
            total += file.bytes;
            if (file.state == FileProgress::State::busy)
                add(fmt::format("  {:3}%  {:>9}  {}", percent(file.have, file.bytes),
                                size_text(double(file.bytes)), file.name));
        }
        const int64_t have = sum(files);
        const double rate = measure(have);
        add(fmt::format("  {:3}%  {} of {}  {}/s  {}", percent(have, total),
                        size_text(double(have)), size_text(double(total)), size_text(rate),
                        rate > 0 ? time_text(double(total - have) / rate) + " left" : ""));
        std::fputs(out.c_str(), stderr);
        std::fflush(stderr);
    }

    // Bytes per second, of the last few seconds mostly.
    double measure(int64_t have) {
        using namespace std::chrono;
        const double passed = duration<double>(steady_clock::now() - last_).count();
        if (passed > 0.05) {
            const double now = std::max(0.0, double(have - before_) / passed);
            const double share = rate_ > 0 ? 1 - std::exp(-passed / 3) : 1;
            rate_ += share * (now - rate_);
            last_ = steady_clock::now();
            before_ = have;
        }
        return rate_;
    }

    bool quiet_, terminal_ = false;
    std::string repository_;
    std::vector<bool> seen_;  // by file: its line has been printed
    int lines_ = 0;
    int64_t before_ = 0;
    double rate_ = 0;
    std::chrono::steady_clock::time_point last_ = std::chrono::steady_clock::now();
};

nlohmann::ordered_json report(const Pulled& pulled) {
    const auto names = [](const std::vector<RepositoryFile>& files) {
        auto list = nlohmann::ordered_json::array();
        for (const RepositoryFile& file : files) list.push_back(file.name);
        return list;
    };
    return {{"path", pulled.snapshot},
            {"commit", pulled.commit},
            {"files", names(pulled.selection.wanted)},
            {"bytes", pulled.bytes},
            {"fetched_bytes", pulled.fetched},
            {"skipped", names(pulled.selection.skipped)}};
}

int run_pull(const PullFlags& flags) {
    PullOptions options = flags.pull;
    options.timeout = int(std::ceil(flags.timeout));
    options.endpoint = hub_endpoint();
    options.token = hub_token();
    if (options.cache.empty()) options.cache = hub_cache();
    stop_on_interrupt(nullptr);
    Display display(flags.quiet, options.repository);
    const PullWatch watch = {
        [&](const Pulled& plan, const auto& files) { display.planned(plan, files); },
        [&](const auto& files) { display.progress(files); },
        [&](const std::string& text) { display.say(text); }, interrupted};
    try {
        const Pulled pulled = pull(options, watch);
        print_line(flags.json ? report(pulled).dump() : pulled.snapshot);
    } catch (const Error&) {
        if (interrupted()) display.say("interrupted; the same command goes on from here");
        throw;
    }
    return 0;
}

}  // namespace

Run declare_pull(CLI::App& app) {
    auto flags = std::make_shared<PullFlags>();
    PullOptions& pull = flags->pull;
    app.add_option("repository", pull.repository, "Repository id, e.g. OpenGVLab/InternVL2-1B")
        ->type_name("REPO")
        ->required();
    app.add_option("--revision", pull.revision, "Branch, tag or commit")->capture_default_str();
    const auto patterns = [&](const char* name, std::vector<std::string>& list, const char* text) {
        repeatable(app.add_option(name, list, text)->type_name("GLOB"));
    };
    patterns("--include", pull.include,
             "Fetch what matches, repeatable (default: all that is needed to run the model)");
    patterns("--exclude", pull.exclude, "But not what matches, repeatable");
    app.add_option("--cache", pull.cache, "Cache folder (default: $HF_HUB_CACHE, $HF_HOME/hub)")
        ->type_name("DIR");
    app.add_option("--jobs", pull.jobs, "Files at once")
        ->check(CLI::Range(1, 64))
        ->capture_default_str();
    const std::map<std::string, double> units = {{"s", 1}, {"m", 60}, {"h", 3600}};
    app.add_option("--timeout", flags->timeout, "Longest silence of the server, e.g. 30s or 2m")
        ->transform(CLI::AsNumberWithUnit(units))
        ->check(CLI::Range(1, 86400))
        ->capture_default_str();
    app.add_option("--retries", pull.retries, "Attempts in a row that may fail")
        ->check(CLI::Range(0, 1000))
        ->capture_default_str();
    app.add_flag("--json", flags->json, "Print one JSON object instead of the snapshot's path");
    app.add_flag("--quiet", flags->quiet, "No progress, no notices");
    return [flags] { return run_pull(*flags); };
}

}  // namespace internvl::cli
