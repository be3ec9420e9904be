#include "io/hub.h"

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <filesystem>
#include <string_view>

#include "base/error.h"

namespace internvl {

namespace fs = std::filesystem;

static std::string variable(const char* name) {
    const char* value = std::getenv(name);
    return value ? value : "";
}

// Where huggingface_hub keeps everything.
static fs::path hub_home() {
    if (const std::string home = variable("HF_HOME"); !home.empty()) return home;
    const std::string cache = variable("XDG_CACHE_HOME");
    return (cache.empty() ? fs::path(variable("HOME")) / ".cache" : fs::path(cache)) /
           "huggingface";
}

std::string hub_cache() {
    const std::string cache = variable("HF_HUB_CACHE");
    return cache.empty() ? (hub_home() / "hub").string() : cache;
}

std::string hub_endpoint() {
    std::string endpoint = variable("HF_ENDPOINT"), offline = variable("HF_HUB_OFFLINE");
    for (char& c : offline) c = char(std::toupper(static_cast<unsigned char>(c)));
    if (offline == "1" || offline == "ON" || offline == "YES" || offline == "TRUE")
        throw Error("HF_HUB_OFFLINE forbids to ask the hub", "it unset, or 0", offline);
    while (endpoint.ends_with('/')) endpoint.pop_back();
    if (endpoint.empty()) return "https://huggingface.co";
    if (!endpoint.starts_with("https://") && !endpoint.starts_with("http://"))
        throw Error("HF_ENDPOINT is no web address", "https://...", endpoint);
    return endpoint;
}

std::string hub_token() {
    const fs::path file = hub_home() / "token";
    std::string token = variable("HF_TOKEN"), where = "HF_TOKEN";
    std::error_code error;
    if (token.empty() && fs::is_regular_file(file, error) && fs::file_size(file, error) > 0)
        token = read_file(where = file.string(), 4096);
    const auto space = [](unsigned char c) { return std::isspace(c); };
    while (!token.empty() && space(token.back())) token.pop_back();
    // It becomes a line of a request.
    if (!std::ranges::all_of(token, [](unsigned char c) { return std::isgraph(c); }))
        throw Error("the token has characters that no token has", "letters, digits, _", "", where);
    return token;
}

std::string repository_folder(const std::string& repository) {
    std::string folder = "models--" + repository;
    if (const size_t slash = folder.find('/'); slash != folder.npos) folder.replace(slash, 1, "--");
    return folder;
}

std::string cached_snapshot(const std::string& repository) {
    const fs::path root = fs::path(hub_cache()) / repository_folder(repository);
    std::error_code error;
    const fs::path main = root / "refs" / "main";
    if (fs::is_regular_file(main, error) && fs::file_size(main, error) > 0) {
        std::string revision = read_file(main.string(), 4096);
        while (!revision.empty() && std::isspace(static_cast<unsigned char>(revision.back())))
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

bool is_repository(const std::string& model) {
    const auto allowed = [](unsigned char c) {
        return std::isalnum(c) || c == '-' || c == '_' || c == '.';
    };
    const auto is_name = [&](std::string_view name) {
        return !name.empty() && name.size() <= 96 && name.front() != '.' && name.front() != '-' &&
               name.back() != '.' && name.back() != '-' && std::ranges::all_of(name, allowed) &&
               name.find("..") == name.npos && name.find("--") == name.npos;
    };
    const size_t slash = model.find('/');
    return slash != model.npos && is_name(std::string_view(model).substr(0, slash)) &&
           is_name(std::string_view(model).substr(slash + 1));
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
                    hub_cache());
    }
    throw Error("no such model",
                "a folder, a repository id such as OpenGVLab/InternVL2-1B, or demo", model);
}

}  // namespace internvl
