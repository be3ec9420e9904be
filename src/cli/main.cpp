#include <csignal>
#include <cstdio>
#include <memory>
#include <new>

#include "base/cpu.h"
#include "base/error.h"
#include "base/log.h"
#include "cli/common.h"
#include "cli/completion.h"
#include "cli/media_worker.h"
#include "cli/version.h"

namespace internvl::cli {

const std::vector<Verb> verbs = {
    {"chat", "Talk about pictures and text", declare_chat},
    {"batch", "Answer a file of requests together; goes on where it was stopped", declare_batch},
    {"serve", "Answer over HTTP as OpenAI's service does, with a page to look at", declare_serve,
     true},
    {"tiles", "What the model would see of a picture or clip: grid, tiles, tokens", declare_tiles},
    {"tokenize", "Text to token ids and back", declare_tokenize},
    {"inspect", "What a model folder holds, and what is wrong with it", declare_inspect},
    {"trace", "Write every stage of one forward pass to a safetensors file", declare_trace},
    {"verify", "Compare every stage with what another implementation wrote", declare_verify},
    {"bench", "Measure every stage against this machine's own peaks", declare_bench},
    {"plan", "What a model would need here: memory, tokens and expected time", declare_plan},
    {"pull", "Download a model into the Hugging Face cache", declare_pull},
    {"quantize", "Write a model in fewer bits, with a receipt of what that costs",
     declare_quantize},
    {"synth", "Write a checkpoint with random weights at real sizes", declare_synth},
};

static std::string version_text() {
    return fmt::format("internvl {} ({}), {}\n{}, kernels {}, {} threads", version, commit,
                       compiler, cpu_description(), isa_name(selected_isa()), usable_cores());
}

static int fail(const std::string& message, int status) {
    std::fprintf(stderr, "internvl: error: %s\n", message.c_str());
    return status;
}

// CLI11's word for a usage mistake, on one line.
static int usage_mistake(CLI::App& app, const CLI::ParseError& e) {
    if (e.get_exit_code() == 0) return app.exit(e);  // --help, --version
    std::string text = e.what();
    for (char& c : text)
        if (c == '\n') c = ' ';
    return fail(text + "; see internvl --help", 2);
}

// `internvl completion bash|zsh|man`: what packagers install.
static void declare_completion(CLI::App& app) {
    CLI::App* command =
        app.add_subcommand("completion", "Print shell completion, or the manual page");
    auto kind = std::make_shared<std::string>();
    command->add_option("kind", *kind, "bash, zsh or man")
        ->required()
        ->check(CLI::IsMember({"bash", "zsh", "man"}));
    command->callback([kind, &app] {
        std::fputs((*kind == "bash"  ? bash_completion(app)
                    : *kind == "zsh" ? zsh_completion(app)
                                     : man_page(app, version))
                       .c_str(),
                   stdout);
    });
}

// The first word is a verb or an option.
static void check_verb(const std::string& word) {
    std::string known = "completion";
    if (word == known) return;
    for (const Verb& verb : verbs) {
        if (word == verb.name || word.starts_with('-')) return;
        known += ", " + std::string(verb.name);
    }
    throw UsageError("this version has no such verb", known, word);
}

static void declare_log(CLI::App& command, std::string& level) {
    command.add_option("--log-level", level, "debug, info, warning, error or off")->group("Output");
    command
        .add_flag_callback(
            "--verbose", [&level] { level = "info"; }, "Same as --log-level info")
        ->group("Output");
}

static int run(int argc, char** argv) {
    if (is_media_worker(argc, argv)) return run_media_worker(argc, argv);
    CLI::App app("internvl: InternVL2 vision-language models, natively");
    app.set_version_flag("--version", version_text);
    app.require_subcommand(1);
    app.fallthrough(false);
    std::string level = "warning";
    std::vector<Run> runs;
    std::vector<CLI::App*> commands;
    for (const Verb& verb : verbs) {
        CLI::App* command = app.add_subcommand(verb.name, verb.summary);
        if (!verb.own_log) declare_log(*command, level);
        commands.push_back(command);
        runs.push_back(verb.declare(*command));
    }
    declare_completion(app);
    try {
        if (argc > 1) check_verb(argv[1]);
        app.parse(argc, argv);
        set_log_level(parse_log_level(level));
        for (size_t i = 0; i < commands.size(); ++i)
            if (commands[i]->parsed()) return runs[i]();
    } catch (const CLI::ParseError& e) {
        return usage_mistake(app, e);
    } catch (const UsageError& e) {
        return fail(e.what(), 2);
    }
    return 0;  // completion has printed
}

}  // namespace internvl::cli

int main(int argc, char** argv) {
    using namespace internvl::cli;
    std::signal(SIGPIPE, SIG_IGN);
    std::signal(SIGXFSZ,
                SIG_IGN);  // a limit on file sizes is an error of the write, as a full disk
    try {
        return run(argc, argv);
    } catch (const BrokenPipe&) {
        return 0;
    } catch (const internvl::UsageError& e) {
        return fail(e.what(), 2);
    } catch (const internvl::Error& e) {
        return interrupted() ? 130 : fail(e.what(), 1);
    } catch (const std::bad_alloc&) {
        return fail("out of memory", 1);
    } catch (const std::exception& e) {
        return fail(e.what(), 1);
    }
}
