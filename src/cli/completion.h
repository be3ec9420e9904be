#pragma once
#include <CLI/CLI.hpp>
#include <string>

namespace internvl::cli {

// From the option table that parses the command line: what a shell offers, and the manual.
std::string bash_completion(const CLI::App&);
std::string zsh_completion(const CLI::App&);
std::string man_page(const CLI::App&, const std::string& version);

}  // namespace internvl::cli
