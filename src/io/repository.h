#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace internvl {

// One file of a repository on the hub.
struct RepositoryFile {
    std::string name;  // a path below the repository's root, with / in between
    int64_t bytes = 0;
    // The digest of its contents and its name among the cache's blobs: SHA-256 (64 digits) of a
    // large file, SHA-1 of git's blob (40 digits) of any other.
    std::string blob;
};

struct Repository {
    std::string commit;  // 40 digits
    std::vector<RepositoryFile> files;
};

// The hub's answer to /api/models/ORG/NAME/revision/REVISION?blobs=true. What it says is not
// trusted: a name that leads out of the repository, a digest that is none, a size that no file has,
// more files than a model has are Errors.
Repository parse_repository(std::string_view json, const std::string& where);

// Which of a repository's files to fetch. Patterns are the shell's, as in `hf download`: * also
// stands for /, and a folder with its / means all that is in it.
struct Selection {
    std::vector<RepositoryFile> wanted, skipped;
    bool loadable = true;  // false: no safetensors are there, other weights were taken instead
};

// Without `include`: configuration, tokenizer, code, licence and the weights as safetensors; files
// of weights in other formats only where there are no safetensors.
Selection select_files(const std::vector<RepositoryFile>&, const std::vector<std::string>& include,
                       const std::vector<std::string>& exclude);

// A path below a folder, as the hub may name a file or a revision: no way out, nothing unprintable.
bool is_inner_path(std::string_view path);

// As a piece of an address: all but letters, digits, -._~ and what is in `plain` becomes %XX.
std::string url_escape(std::string_view text, std::string_view plain = "");

// Somebody else's text, for a message: short, on one line, nothing that moves a terminal's cursor.
std::string printable(std::string_view text, size_t longest = 100);

}  // namespace internvl
