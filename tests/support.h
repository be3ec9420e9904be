#pragma once
// What tests share: where files are, and how they are read.
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <string>
#include <vector>

namespace internvl {

inline std::string golden(const std::string& name) {
    return std::string(INTERNVL_SOURCE_DIR) + "/tests/golden/" + name;
}

// Other people's files, beside the project; tests that want them skip where they are missing.
inline std::string outside(const std::string& name) {
    return std::string(INTERNVL_SOURCE_DIR) + "/../shared/" + name;
}
#define REQUIRE_OUTSIDE(name) \
    if (!std::filesystem::exists(outside(name))) GTEST_SKIP() << "needs ../shared/" << name

inline std::string read_text(const std::string& path) {
    std::ifstream file(path, std::ios::binary);
    if (!file) ADD_FAILURE() << "cannot read " << path;
    std::stringstream text;
    text << file.rdbuf();
    return text.str();
}

inline nlohmann::json read_json(const std::string& path) {
    return nlohmann::json::parse(read_text(path));
}

inline std::vector<nlohmann::json> read_json_lines(const std::string& path) {
    std::vector<nlohmann::json> lines;
    std::stringstream text(read_text(path));
    for (std::string line; std::getline(text, line);)
        if (!line.empty()) lines.push_back(nlohmann::json::parse(line));
    return lines;
}

// The golden files write a run of n equal ids, 8 or more, as [id, n].
inline std::vector<int> expand_ids(const nlohmann::json& ids) {
    std::vector<int> all;
    for (const auto& id : ids) {
        if (id.is_array())
            all.insert(all.end(), id[1].get<size_t>(), id[0].get<int>());
        else
            all.push_back(id.get<int>());
    }
    return all;
}

// A folder of its own for one test, gone afterwards.
class TemporaryFolder {
  public:
    TemporaryFolder() {
        std::string name =
            (std::filesystem::temp_directory_path() / "internvl-test-XXXXXX").string();
        path_ = mkdtemp(name.data());
    }
    ~TemporaryFolder() { std::filesystem::remove_all(path_); }
    std::string operator/(const std::string& name) const { return (path_ / name).string(); }
    std::string path() const { return path_.string(); }

    std::string write(const std::string& name, const std::string& text) const {
        std::ofstream(path_ / name, std::ios::binary) << text;
        return *this / name;
    }

  private:
    std::filesystem::path path_;
};

}  // namespace internvl
