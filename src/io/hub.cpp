#include "io/hub.h"

#include <algorithm>
#include <cstdlib>
#include <filesystem>

#include "base/error.h"

namespace internvl {

namespace fs = std::filesystem;

static std::string variable(const char* name) {
    const char* value = std::getenv(name);
    return value ? value : "";
}

static fs::path cache_folder() {
    if (const std::string hub = variable("HF_HUB_CACHE"); !hub.empty()) return hub;
    if (const std::string home = variable("HF_HOME"); !home.empty()) return fs::path(home) / "hub";
    const std::string cache = variable("XDG_CACHE_HOME");
    return (cache.empty() ? fs::path(variable("HOME")) / ".cache" : fs::path(cache)) /
           "huggingface" / "hub";
}

std::string cached_snapshot(const std::string& repository) {
    std::string folder = "models--" + repository;
    if (const size_t slash = folder.find('/'); slash != folder.npos) folder.replace(slash, 1, "--");
    const fs::path root = cache_folder() / folder;
    std::error_code error;
    const fs::path main = root / "refs" / "main";
    if (fs::is_regular_file(main, error) && fs::file_size(main, error) > 0) {
        std::string revision = read_file(main.string(), 4096);
        while (!revision.empty() && isspace(static_cast<unsigned char>(revision.back())))
            revision.pop_back();
        if (fs::is_directory(root / "snapshots" / revision, error))
            return (root / "snapshots" / revision).string();
    }
    // Fetched by revision only: any snapshot will do when it is the only one.
    std::string only;
    for (const auto& entry : fs::directory_iterator(root / "snapshots", error)) {
        if (!only.empty())
            throw Error("several revisions are in the cache and none is named main",
                        "give the folder", "", (root / "snapshots").string());
        only = entry.path().string();
    }
    return only;
}

// ORG/NAME: one slash, and only what the hub allows in names.
static bool is_repository(const std::string& model) {
    const auto allowed = [](char c) {
        return isalnum(static_cast<unsigned char>(c)) || c == '-' || c == '_' || c == '.';
    };
    return std::ranges::count(model, '/') == 1 && model.front() != '/' && model.back() != '/' &&
           model.front() != '.' &&
           std::ranges::all_of(model, [&](char c) { return c == '/' || allowed(c); });
}

ModelFolder resolve_model(const std::string& model) {
    if (model.empty()) {
        const std::string fallback = variable("INTERNVL_MODEL");
        if (fallback.empty())
            throw UsageError("no model given",
                             "a folder, a repository id such as OpenGVLab/InternVL2-1B, or demo",
                             "nothing, and INTERNVL_MODEL is not set");
        return resolve_model(fallback);
    }
    std::error_code error;
    if (fs::exists(model, error)) return ModelFolder::open(model);
    if (ModelFolder::has_builtin(model)) return ModelFolder::builtin(model);
    if (is_repository(model)) {
        const std::string snapshot = cached_snapshot(model);
        if (!snapshot.empty()) return ModelFolder::open(snapshot);
        throw Error("the model is neither a folder nor in the Hugging Face cache",
                    "`internvl pull " + model + "` (or `hf download " + model + "`) first", "",
                    cache_folder().string());
    }
    throw Error("no such model",
                "a folder, a repository id such as OpenGVLab/InternVL2-1B, or demo", model);
}

}  // namespace internvl
