#include "io/folder.h"

#include <algorithm>
#include <filesystem>

#include "base/error.h"
#include "io/builtin_files.h"

namespace internvl {

namespace fs = std::filesystem;

ModelFolder ModelFolder::open(const std::string& path) {
    std::error_code error;
    if (!fs::exists(path, error)) throw Error("no such folder", "a model folder", "", path);
    if (!fs::is_directory(path, error))
        throw Error("not a folder", "a model folder", "a file", path);
    ModelFolder folder;
    folder.path_ = folder.where_ = path;
    return folder;
}

bool ModelFolder::has_builtin(const std::string& name) {
    return std::ranges::any_of(builtin_files(),
                               [&](const BuiltinFile& f) { return f.model == name; });
}

ModelFolder ModelFolder::builtin(const std::string& name) {
    if (!has_builtin(name)) throw Error("no built-in model of this name", "demo", name);
    ModelFolder folder;
    folder.where_ = "built-in " + name;
    return folder;
}

static const BuiltinFile* find_builtin(const std::string& where, const std::string& file) {
    for (const BuiltinFile& f : builtin_files())
        if (where == "built-in " + std::string(f.model) && f.name == file) return &f;
    return nullptr;
}

bool ModelFolder::has(const std::string& file) const {
    std::error_code error;
    return path_.empty() ? find_builtin(where_, file) != nullptr
                         : fs::is_regular_file(fs::path(path_) / file, error);
}

MappedFile ModelFolder::map(const std::string& file) const {
    if (!path_.empty()) return MappedFile::open((fs::path(path_) / file).string());
    const BuiltinFile* found = find_builtin(where_, file);
    if (!found) throw Error("no such file", "", file, where_);
    return MappedFile::of_bytes(found->bytes);
}

std::optional<std::string> ModelFolder::read(const std::string& file) const {
    constexpr size_t limit = size_t(256) << 20;
    if (!has(file)) return std::nullopt;
    const MappedFile mapped = map(file);
    if (mapped.bytes().size() > limit)
        throw Error("file is too large", std::to_string(limit) + " bytes at most",
                    std::to_string(mapped.bytes().size()), where_ + "/" + file);
    return std::string(reinterpret_cast<const char*>(mapped.bytes().data()), mapped.bytes().size());
}

std::vector<std::string> ModelFolder::list() const {
    std::vector<std::string> names;
    if (path_.empty()) {
        for (const BuiltinFile& f : builtin_files())
            if (where_ == "built-in " + std::string(f.model)) names.emplace_back(f.name);
    } else {
        std::error_code error;
        for (const auto& entry : fs::directory_iterator(path_, error))
            if (entry.is_regular_file(error)) names.push_back(entry.path().filename().string());
    }
    std::ranges::sort(names);
    return names;
}

}  // namespace internvl
