// Media by address: what a client hears, whatever the reason.
#include <sys/stat.h>

#include <atomic>
#include <set>
#include <thread>

#include "attack_files.h"
#include "e2e/hub_server.h"
#include "media_scene.h"

namespace internvl {
namespace {

using namespace std::chrono_literals;

// Pictures behind a scripted server on this machine, which is allowed by flag.
struct RemoteScene {
    HubServer server;
    MediaLimits limits = usual_limits();
    std::unique_ptr<MediaLoader> loader;

    RemoteScene() {
        const std::string url = server.url();
        limits.fetch.urls.ports = {uint16_t(std::stoi(url.substr(url.rfind(':') + 1)))};
        limits.fetch.allowed = {AddressBlock::parse("127.0.0.1/32").value()};
        server.intercept = [](const Request&, const Connection& c) {
            c.reply("200 OK", "", black_png(9, 9));
            return true;
        };
    }
    MediaLoader& start() {
        loader = std::make_unique<MediaLoader>(limits);
        return *loader;
    }
    Loaded load(const std::string& url) { return load_all(*loader, {picture(url)}); }
};

TEST(RemoteMedia, ComesThrough) {
    RemoteScene scene;
    scene.start();
    EXPECT_EQ(code_of(scene.load(scene.server.url() + "/a.png")), "");
    EXPECT_EQ(code_of(scene.load(scene.server.url() + "/a.png")), "");
    EXPECT_EQ(scene.server.requests().size(), 2u);  // fetched each time
}

TEST(RemoteMedia, OneTextForEveryRefusal) {
    RemoteScene scene;
    scene.server.intercept = [](const Request&, const Connection& c) {
        c.redirect("http://169.254.169.254/latest/meta-data/");
        return true;
    };
    scene.start();
    std::set<std::string> texts;
    for (const std::string& url :
         {std::string("http://127.0.0.2/"), std::string("http://[::1]/"),
          std::string("http://10.0.0.1/"), std::string("http://169.254.169.254/latest/"),
          std::string("http://[64:ff9b::a00:1]/"), std::string("http://1.1.1.1:22/"),
          scene.server.url() + "/moved"}) {
        const Loaded loaded = scene.load(url);
        EXPECT_EQ(code_of(loaded), "url_not_allowed") << url;
        texts.insert(std::get<MediaError>(loaded).message);
    }
    EXPECT_EQ(texts.size(), 1u);
    EXPECT_EQ(scene.server.requests().size(), 1u);
    for (const char* url : {"http://2130706433/", "http://0x7f.1/", "http://a@b.example/",
                            "http://good.example\\@127.0.0.1/"})
        EXPECT_EQ(code_of(scene.load(url)), "invalid_image_url") << url;
    EXPECT_EQ(code_of(load_all(*scene.loader, {video("http://127.0.0.2/")})), "url_not_allowed");
}

TEST(RemoteMedia, WhatTheOtherSideDoesWrong) {
    std::string how;
    std::atomic<bool> end = false;
    RemoteScene scene;
    scene.limits.picture_fetch = 400ms;
    scene.limits.picture_bytes = 100'000;
    scene.server.intercept = [&](const Request&, const Connection& c) {
        if (how == "status") c.reply("404 Not Found", "", "<html>secret page</html>");
        if (how == "slow") c.hold([&] { return end.load(); });
        if (how == "large") c.reply("200 OK", "", std::string(100'001, 'x'));
        if (how == "text") c.reply("200 OK", "Content-Type: image/png\r\n", "hello, world");
        if (how == "half") c.reply("200 OK", "", black_png(100, 100).substr(0, 60));
        return true;
    };
    scene.start();
    const auto error = [&](const std::string& kind) {
        how = kind;
        const Loaded loaded = scene.load(scene.server.url() + "/");
        code_of(loaded);  // checks the text
        const auto* found = std::get_if<MediaError>(&loaded);
        return found ? *found : MediaError{};
    };
    EXPECT_EQ(error("status").code, "image_fetch_failed");
    EXPECT_NE(error("status").message.find("404"), std::string::npos);
    EXPECT_EQ(error("slow").code, "image_fetch_failed");
    end = true;
    EXPECT_EQ(error("nothing").code, "image_fetch_failed");
    EXPECT_EQ(error("large").code, "image_too_large");
    EXPECT_EQ(error("text").code, "unsupported_image_format");
    EXPECT_EQ(error("half").code, "invalid_image");
}

TEST(RemoteMedia, AFewAtATimeAndNotForever) {
    std::atomic<int> now = 0, most = 0;
    RemoteScene scene;
    scene.server.intercept = [&](const Request&, const Connection& c) {
        most = std::max(most.load(), ++now);
        std::this_thread::sleep_for(50ms);
        --now;
        c.reply("200 OK", "", black_png(9, 9));
        return true;
    };
    scene.limits.request_fetch = 5s;
    scene.start();
    const std::vector<MediaPart> parts(10, picture(scene.server.url() + "/x"));
    EXPECT_EQ(code_of(load_all(*scene.loader, parts)), "");
    EXPECT_LE(most, 4);
    EXPECT_GE(most, 2);
    scene.limits.request_fetch = 120ms;
    scene.start();
    EXPECT_EQ(code_of(load_all(*scene.loader, parts)), "image_fetch_failed");
}

TEST(RemoteMedia, CancelledWhileItIsFetched) {
    RemoteScene scene;
    scene.server.intercept = [&](const Request&, const Connection& c) {
        c.hold([] { return false; });
        return true;
    };
    MediaLoader& loader = scene.start();
    CancelToken cancel;
    Hearing<std::vector<FetchedMedia>> hearing;
    loader.fetch({picture(scene.server.url() + "/x")}, false, cancel, hearing.done());
    while (scene.server.requests().empty()) std::this_thread::sleep_for(1ms);
    const auto start = std::chrono::steady_clock::now();
    cancel.cancel();
    const Fetched fetched = hearing.wait();
    EXPECT_LT(std::chrono::steady_clock::now() - start, 100ms);
    EXPECT_EQ(std::get<MediaError>(fetched).code, "cancelled");
    EXPECT_EQ(std::get<MediaError>(fetched).status, 499);
}

TEST(RemoteMedia, BytesOfAllRequestsTogether) {
    RemoteScene scene;
    const std::string file = black_png(300, 300);
    scene.server.intercept = [&](const Request&, const Connection& c) {
        c.reply("200 OK", "", file);
        return true;
    };
    scene.limits.fetched_bytes = int64_t(file.size()) * 5 / 2;
    MediaLoader& loader = scene.start();
    const MediaPart part = picture(scene.server.url() + "/x");
    {
        const Fetched held = fetch_all(loader, {part, part});
        EXPECT_EQ(held.index(), 0u);
        const Fetched more = fetch_all(loader, {part});
        EXPECT_EQ(std::get<MediaError>(more).code, "queue_full");
        EXPECT_EQ(std::get<MediaError>(more).status, 429);
    }
    EXPECT_EQ(fetch_all(loader, {part, part}).index(), 0u);
}

TEST(FileMedia, OnlyBeneathTheRoot) {
    const TemporaryFolder folder;
    const std::string root = folder / "root";
    std::filesystem::create_directories(root + "/in ner");
    const auto write = [](const std::string& path, const std::string& text) {
        std::ofstream(path, std::ios::binary) << text;
    };
    write(root + "/in ner/a.png", black_png(5, 5));
    write(folder / "out.png", black_png(5, 5));
    write(root + "/large.png", std::string(30 << 20, 'x'));
    std::filesystem::create_symlink("../out.png", root + "/link.png");
    ASSERT_EQ(::mkfifo((root + "/pipe").c_str(), 0600), 0);
    MediaLimits limits = usual_limits();
    limits.media_root = root;
    MediaLoader loader(limits);
    const auto load = [&](const std::string& url, bool may = true) {
        return load_all(loader, {picture(url)}, may);
    };
    EXPECT_EQ(code_of(load("file://" + root + "/in%20ner/a.png")), "");
    EXPECT_EQ(code_of(load("FILE://" + root + "/in%20ner/%61.png")), "");
    std::set<std::string> texts;
    for (const std::string& path :
         {std::string("/etc/passwd"), root + "/missing.png", root + "/link.png", root + "/pipe",
          root + "/in%20ner", root + "/../out.png", root + "/%2e%2e/out.png",
          root + "/in%20ner/%2E%2E%2Flink.png", root + "/large.png", std::string("/dev/zero"),
          root + "/a%00.png", root + "/%zz", root + "/a%2", std::string("/")}) {
        const Loaded loaded = load("file://" + path);
        EXPECT_EQ(code_of(loaded), "url_not_allowed") << path;
        texts.insert(std::get<MediaError>(loaded).message);
    }
    for (const std::string& url :
         {"file:" + root + "/in%20ner/a.png", "file://localhost" + root + "/in%20ner/a.png"})
        texts.insert(std::get<MediaError>(load(url)).message);
    EXPECT_EQ(texts.size(), 1u);
    const Loaded refused = load("file://" + root + "/in%20ner/a.png", false);
    EXPECT_EQ(code_of(refused), "not_permitted");
    EXPECT_EQ(std::get<MediaError>(refused).status, 403);
}

}  // namespace
}  // namespace internvl
