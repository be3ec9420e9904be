#pragma once
// Runs the built program as a user does.
#include <sys/wait.h>
#include <unistd.h>

#include <cstdlib>

#include "support.h"

namespace internvl {

struct Outcome {
    int status;
    std::string out, err;

    // An error is one clear line.
    bool one_line_error() const {
        return err.starts_with("internvl: error: ") && std::ranges::count(err, '\n') == 1 &&
               err.back() == '\n';
    }
};

inline std::string quoted(const std::string& word) {
    std::string text = "'";
    for (const char c : word) {
        if (c == '\'') text += "'\\'";
        text += c;
    }
    text += '\'';
    return text;
}

inline std::string program_path(const std::string& program = "internvl") {
    return std::string(INTERNVL_BINARY_DIR) + "/" + program;
}

// `prefix` is shell text before the program, such as "ulimit -f 8;" or "printf x |".
inline Outcome run_program(const std::vector<std::string>& args, const std::string& prefix = "",
                           const std::string& program = "internvl") {
    const TemporaryFolder folder;
    std::stringstream command;
    command << prefix << ' ' << quoted(program_path(program));
    for (const std::string& arg : args) command << ' ' << quoted(arg);
    command << " > " << quoted(folder / "out") << " 2> " << quoted(folder / "err");
    const int status = std::system(command.str().c_str());
    return {WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status), read_text(folder / "out"),
            read_text(folder / "err")};
}

inline std::vector<nlohmann::json> json_lines(const std::string& text) {
    std::vector<nlohmann::json> lines;
    std::stringstream in(text);
    for (std::string line; std::getline(in, line);) lines.push_back(nlohmann::json::parse(line));
    return lines;
}

}  // namespace internvl
