#pragma once
// `internvl pull org/tiny` from a hub on this machine into a cache of its own.
#include <filesystem>

#include "hub_server.h"
#include "program.h"

namespace internvl {

namespace fs = std::filesystem;

inline size_t size_of(const std::string& path) {
    std::error_code error;
    const auto size = fs::file_size(path, error);
    return error ? 0 : size;
}

// Bytes that no compression, sparse file or repetition could hide a mistake in.
inline std::string noise(size_t bytes, uint32_t seed = 1) {
    std::string text(bytes, '\0');
    for (char& c : text) {
        seed = seed * 1664525u + 1013904223u;
        c = char(seed >> 24);
    }
    return text;
}

class Pull : public testing::Test {
  protected:
    HubServer hub;
    TemporaryFolder folder;
    std::string cache = folder / "hub";

    std::string environment() const {
        return "HF_ENDPOINT=" + hub.url() + " HF_HUB_CACHE=" + quoted(cache) +
               " HF_HOME=" + quoted(folder / "home") + " no_proxy=127.0.0.1 ";
    }
    Outcome pull(std::vector<std::string> options = {}, const std::string& prefix = "HF_TOKEN=") {
        options.insert(options.begin(), {"pull", "org/tiny"});
        return run_program(options, prefix + " " + environment());
    }
    void expect_failure(const Outcome& o, const std::string& says, int status = 1) {
        EXPECT_EQ(o.status, status) << o.err;
        EXPECT_TRUE(o.one_line_error()) << o.err;
        EXPECT_NE(o.err.find(says), o.err.npos) << "expected \"" << says << "\" in: " << o.err;
        EXPECT_EQ(o.out, "");
    }

    std::string repository() const { return cache + "/models--org--tiny"; }
    std::string blob(const std::string& name) const {
        return repository() + "/blobs/" + hub.blob(name);
    }
    std::string partial(const std::string& name) const { return blob(name) + ".incomplete"; }
    std::string pulled(const std::string& name) const {
        return read_text(repository() + "/snapshots/" + HubServer::commit + "/" + name);
    }
    void put_partial(const std::string& name, const std::string& content) {
        fs::create_directories(repository() + "/blobs");
        std::ofstream(partial(name), std::ios::binary) << content;
    }

    // The first `times` requests for the file are answered otherwise.
    void misbehave(const std::string& name, int times,
                   std::function<void(const Request&, const Connection&)> answer) {
        hub.intercept = [=, this](const Request& request, const Connection& connection) {
            if (!request.path.ends_with("/" + name) || int(hub.requests(name).size()) > times)
                return false;
            answer(request, connection);
            return true;
        };
    }
};

}  // namespace internvl
