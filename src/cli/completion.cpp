#include "cli/completion.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

namespace internvl::cli {

static std::vector<std::string> verb_names(const CLI::App& app) {
    std::vector<std::string> names;
    for (const CLI::App* verb : app.get_subcommands([](const CLI::App*) { return true; }))
        names.push_back(verb->get_name());
    return names;
}

static std::vector<std::string> long_options(const CLI::App& verb) {
    std::vector<std::string> names;
    for (const CLI::Option* option : verb.get_options())
        for (const std::string& name : option->get_lnames()) names.push_back("--" + name);
    return names;
}

std::string bash_completion(const CLI::App& app) {
    std::string cases;
    for (const CLI::App* verb : app.get_subcommands([](const CLI::App*) { return true; }))
        cases += fmt::format("        {}) words=\"{}\" ;;\n", verb->get_name(),
                             fmt::join(long_options(*verb), " "));
    return fmt::format(
        "# internvl completion bash > /etc/bash_completion.d/internvl\n"
        "_internvl() {{\n"
        "    local current=${{COMP_WORDS[COMP_CWORD]}} words=\n"
        "    if [ \"$COMP_CWORD\" -eq 1 ]; then\n"
        "        COMPREPLY=($(compgen -W '{} --help --version' -- \"$current\"))\n"
        "        return\n"
        "    fi\n"
        "    case ${{COMP_WORDS[1]}} in\n{}    esac\n"
        "    if [[ $current == -* ]]; then COMPREPLY=($(compgen -W \"$words\" -- \"$current\"))\n"
        "    else COMPREPLY=($(compgen -f -- \"$current\")); fi\n"
        "}}\n"
        "complete -o filenames -F _internvl internvl\n",
        fmt::join(verb_names(app), " "), cases);
}

std::string zsh_completion(const CLI::App& app) {
    return "#compdef internvl\nautoload -U +X bashcompinit && bashcompinit\n" +
           bash_completion(app);
}

// Text for troff: a leading dot or a backslash would be a command.
static std::string troff(const std::string& text) {
    std::string out;
    for (const char c : text) {
        if (c == '\\' || c == '-') out += '\\';
        out += c;
    }
    return out;
}

std::string man_page(const CLI::App& app, const std::string& version) {
    std::string page = fmt::format(
        ".TH INTERNVL 1 \"\" \"internvl {}\"\n.SH NAME\ninternvl \\- {}\n.SH SYNOPSIS\n.B "
        "internvl\n.I VERB\n[options]\n",
        version, "InternVL2 vision-language models, natively");
    for (const CLI::App* verb : app.get_subcommands([](const CLI::App*) { return true; })) {
        page += fmt::format(".SH {}\n{}\n", verb->get_name(), troff(verb->get_description()));
        for (const CLI::Option* option : verb->get_options())
            page += fmt::format(".TP\n.B {}\n{}\n", troff(option->get_name(false, true)),
                                troff(option->get_description()));
    }
    return page + ".SH EXIT STATUS\n0 done, 1 it failed, 2 wrong usage, 130 interrupted.\n";
}

}  // namespace internvl::cli
