#include "io/repository.h"

#include <fmt/format.h>
#include <fnmatch.h>

#include <algorithm>
#include <cctype>
#include <unordered_set>

#include "base/error.h"
#include "base/json.h"

namespace internvl {

namespace {

using nlohmann::json;

bool is_digest(const std::string& text, size_t digits) {
    return text.size() == digits && std::ranges::all_of(text, [](char c) {
               return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'f');
           });
}

// The string under `key`, "" when there is none.
std::string text_at(const json& object, const char* key) {
    const auto at = object.find(key);
    return at != object.end() && at->is_string() ? at->get<std::string>() : "";
}

// The lengths of names that Linux allows.
constexpr size_t longest_name = 255, longest_path = 1024;
constexpr size_t most_files = 10'000;
constexpr int64_t largest_file = int64_t(1) << 50;

RepositoryFile parse_file(const json& entry, const std::string& where) {
    if (!entry.is_object()) throw Error("the hub lists a file that is none", "", "", where);
    RepositoryFile file;
    file.name = text_at(entry, "rfilename");
    if (!is_inner_path(file.name))
        throw Error("the hub lists a file of an impossible name",
                    "a path inside the repository, without .. or unprintable characters",
                    '"' + printable(file.name) + '"', where);
    const auto size = entry.find("size");
    if (size == entry.end() || !size->is_number_unsigned() ||
        size->get<uint64_t>() > uint64_t(largest_file))
        throw Error("the hub lists a file of an impossible size",
                    fmt::format("0 to {} bytes", largest_file),
                    size == entry.end() ? "none" : printable(size->dump()),
                    where + ", " + file.name);
    file.bytes = size->get<int64_t>();
    const auto lfs = entry.find("lfs");
    const bool large = lfs != entry.end() && lfs->is_object();
    file.blob = large ? text_at(*lfs, "sha256") : text_at(entry, "blobId");
    if (!is_digest(file.blob, large ? 64 : 40))
        throw Error("the hub lists a file without a checksum",
                    large ? "64 digits in lfs.sha256" : "40 digits in blobId",
                    '"' + printable(file.blob) + '"', where + ", " + file.name);
    return file;
}

bool matches(const std::string& name, const std::vector<std::string>& patterns) {
    return std::ranges::any_of(patterns, [&](std::string pattern) {
        if (pattern.ends_with('/')) pattern += '*';
        return fnmatch(pattern.c_str(), name.c_str(), FNM_NOESCAPE) == 0;
    });
}

const std::vector<std::string> plain_files = {"*.json",   "*.txt",   "*.model",      "*.tiktoken",
                                              "*.jinja",  "*.py",    "README.md",    "LICENSE*",
                                              "LICENCE*", "NOTICE*", "*.safetensors"};
const std::vector<std::string> other_weights = {"*.bin", "*.pth", "*.pt"};

}  // namespace

bool is_inner_path(std::string_view path) {
    if (path.empty() || path.size() > longest_path) return false;
    for (size_t i = 0; i < path.size(); ++i) {
        const auto c = static_cast<unsigned char>(path[i]);
        // Control characters; those above ASCII are 0xC2 and a byte below 0xA0 in UTF-8.
        if (c < 0x20 || c == 0x7f || c == '\\') return false;
        if (c == 0xc2 && i + 1 < path.size() && static_cast<unsigned char>(path[i + 1]) < 0xa0)
            return false;
    }
    for (size_t begin = 0; begin <= path.size();) {
        const std::string_view part = path.substr(begin, path.find('/', begin) - begin);
        if (part.empty() || part == "." || part == ".." || part.size() > longest_name) return false;
        begin += part.size() + 1;
    }
    return true;
}

std::string url_escape(std::string_view text, std::string_view plain) {
    std::string escaped;
    for (const char c : text) {
        if (std::isalnum(static_cast<unsigned char>(c)) ||
            std::string_view("-._~").find(c) != std::string_view::npos ||
            plain.find(c) != plain.npos)
            escaped += c;
        else
            escaped += fmt::format("%{:02X}", static_cast<unsigned char>(c));
    }
    return escaped;
}

std::string printable(std::string_view text, size_t longest) {
    std::string plain(text.substr(0, longest));
    for (char& c : plain)
        if (!std::isprint(static_cast<unsigned char>(c))) c = '?';
    return text.size() > longest ? plain + "..." : plain;
}

Repository parse_repository(std::string_view text, const std::string& where) {
    json answer;
    try {
        answer = parse_json(text, where);
    } catch (const Error& e) {
        // The message quotes what it could not read.
        throw Error(printable(e.what(), 300), "the hub's list of files", "", where);
    }
    if (!answer.is_object() || !answer.contains("siblings") || !answer["siblings"].is_array())
        throw Error("the hub's answer lists no files", "a JSON object with \"siblings\"", "",
                    where);
    Repository repository;
    repository.commit = text_at(answer, "sha");
    if (!is_digest(repository.commit, 40))
        throw Error("the hub's answer names no commit", "40 digits in \"sha\"",
                    '"' + printable(repository.commit) + '"', where);
    const json& files = answer["siblings"];
    if (files.size() > most_files)
        throw Error("the repository has too many files", fmt::format("at most {}", most_files),
                    std::to_string(files.size()), where);
    std::unordered_set<std::string> names;
    for (const json& entry : files) {
        repository.files.push_back(parse_file(entry, where));
        if (!names.insert(repository.files.back().name).second)
            throw Error("the hub lists a file twice", "", repository.files.back().name, where);
    }
    return repository;
}

Selection select_files(const std::vector<RepositoryFile>& files,
                       const std::vector<std::string>& include,
                       const std::vector<std::string>& exclude) {
    Selection selection;
    std::vector<std::string> patterns = include;
    bool other = false;  // weights in other formats
    if (include.empty()) {
        patterns = plain_files;
        other = std::ranges::none_of(
            files, [](const RepositoryFile& f) { return f.name.ends_with(".safetensors"); });
        if (other) patterns.insert(patterns.end(), other_weights.begin(), other_weights.end());
    }
    for (const RepositoryFile& file : files) {
        const bool wanted = matches(file.name, patterns) && !matches(file.name, exclude);
        (wanted ? selection.wanted : selection.skipped).push_back(file);
        if (wanted && other && matches(file.name, other_weights)) selection.loadable = false;
    }
    return selection;
}

}  // namespace internvl
