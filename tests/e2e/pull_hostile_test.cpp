// `internvl pull` from a hub that lies: a clear error, and nothing outside the cache.
#include "pull_fixture.h"

namespace internvl {

TEST_F(Pull, RangesThatAreNotHonoured) {
    hub.add("model.safetensors", noise(300'000), true);
    const std::string& content = hub.content("model.safetensors");
    // The whole file, although only the rest was asked for.
    put_partial("model.safetensors", content.substr(0, 1000));
    misbehave("model.safetensors", 1, [&](const Request& request, const Connection& connection) {
        EXPECT_EQ(request.header("range"), "bytes=1000-");
        connection.reply("200 OK", "", content);
    });
    ASSERT_EQ(pull({"--quiet"}).status, 0);
    EXPECT_EQ(pulled("model.safetensors"), content);
    // Another part than was asked for: all is fetched anew.
    fs::remove_all(cache);
    put_partial("model.safetensors", content.substr(0, 1000));
    const size_t before = hub.requests("model.safetensors").size();
    misbehave("model.safetensors", int(before) + 1,
              [&](const Request&, const Connection& connection) {
                  connection.reply("206 Partial Content",
                                   "Content-Range: bytes 0-299999/300000\r\n", content);
              });
    ASSERT_EQ(pull({"--quiet"}).status, 0);
    EXPECT_EQ(hub.requests("model.safetensors").at(before + 1).header("range"), "");
    EXPECT_EQ(pulled("model.safetensors"), content);
}

TEST_F(Pull, PartialsOfSomethingElse) {
    hub.add("model.safetensors", noise(300'000), true);
    const std::string& content = hub.content("model.safetensors");
    for (const std::string& stale : {noise(1'000, 2), noise(300'000, 2), noise(400'000, 2)}) {
        fs::remove_all(cache);
        put_partial("model.safetensors", stale);
        ASSERT_EQ(pull({"--quiet"}).status, 0);
        EXPECT_EQ(pulled("model.safetensors"), content);
    }
    fs::remove_all(cache);
    put_partial("model.safetensors", content);  // killed just before the end
    const size_t before = hub.requests("model.safetensors").size();
    ASSERT_EQ(pull({"--quiet"}).status, 0);
    EXPECT_EQ(hub.requests("model.safetensors").size(), before);
    EXPECT_EQ(pulled("model.safetensors"), content);
}

TEST_F(Pull, LiesAboutLengths) {
    hub.add("model.safetensors", noise(300'000), true);
    const std::string& content = hub.content("model.safetensors");
    const auto lie = [&](const std::string& head, const std::string& body,
                         const std::string& says) {
        SCOPED_TRACE(head);
        misbehave("model.safetensors", 99, [=](const Request&, const Connection& connection) {
            connection.send("HTTP/1.1 200 OK\r\n" + head + "\r\n" + body);
        });
        expect_failure(pull({"--quiet", "--retries", "1"}), says);
        EXPECT_FALSE(fs::exists(blob("model.safetensors")));
        EXPECT_LE(size_of(partial("model.safetensors")), content.size());
    };
    lie("Content-Length: 300001\r\n", content + "x", "expected 300000, found 300001");
    lie("Content-Length: 299999\r\n", content, "expected 300000, found 299999");
    lie("", content + "x", "longer than announced");
    lie("Transfer-Encoding: chunked\r\n", "493e1\r\n" + content + "x\r\n0\r\n\r\n",
        "longer than announced");
    lie("", content.substr(0, 200'000), "ended early; expected 300000 bytes, found 200000");
    lie("Content-Length: 300000\r\n", content.substr(0, 200'000), "broke off");
}

TEST_F(Pull, WrongContents) {
    hub.add("model.safetensors", noise(300'000), true);
    hub.add("config.json", "{\"right\": 1}");
    for (const char* name : {"model.safetensors", "config.json"}) {
        std::string wrong = hub.content(name);
        wrong[7] ^= 1;
        misbehave(name, 99, [&](const Request& request, const Connection& connection) {
            connection.file(request, wrong);
        });
        const size_t before = hub.requests(name).size();
        expect_failure(pull({"--quiet"}),
                       "wrong checksum; expected " + hub.blob(name) + ", found ");
        EXPECT_EQ(hub.requests(name).size(), before + 2);
        EXPECT_FALSE(fs::exists(partial(name)));
        EXPECT_FALSE(fs::exists(blob(name)));
        EXPECT_FALSE(fs::exists(repository() + "/snapshots"));
        hub.intercept = {};
        ASSERT_EQ(pull({"--quiet"}).status, 0);
        fs::remove_all(cache);
    }
}

TEST_F(Pull, RedirectsThatAreNotFollowed) {
    hub.add("config.json", "{}");
    folder.write("secret", "{}");
    const auto redirect = [&](const std::string& to, const std::string& says) {
        SCOPED_TRACE(to);
        misbehave("config.json", 99,
                  [=](const Request&, const Connection& connection) { connection.redirect(to); });
        expect_failure(pull({"--quiet"}), says);
        EXPECT_FALSE(fs::exists(blob("config.json")));
    };
    redirect("file://" + (folder / "secret"), "redirects to where we do not follow");
    redirect("ftp://127.0.0.1/x", "redirects to where we do not follow");
    redirect("gopher://127.0.0.1/x", "redirects to where we do not follow");
    redirect("/org/tiny/config.json", "sends us on without end");
    redirect("http://", "");
    misbehave("config.json", 99, [=](const Request&, const Connection& connection) {
        connection.reply("302 Found", "", "");
    });
    expect_failure(pull({"--quiet"}), "HTTP status 302");
}

TEST_F(Pull, RefusalsSayWhatToDo) {
    const auto refuse = [&](const std::string& status, const std::string& code,
                            const std::string& says, const std::string& token = "") {
        SCOPED_TRACE(status + code);
        hub.intercept = [=](const Request&, const Connection& connection) {
            connection.reply(status, code.empty() ? "" : "X-Error-Code: " + code + "\r\n",
                             "{\"error\": \"\x1b[2J\"}");
            return true;
        };
        expect_failure(pull({"--quiet"}, "HF_TOKEN=" + token), says);
    };
    refuse("401 Unauthorized", "RepoNotFound", "or HF_TOKEN set");
    refuse("401 Unauthorized", "", "or HF_TOKEN set");
    refuse("401 Unauthorized", "", "a valid token in HF_TOKEN", "hf_old");
    refuse("401 Unauthorized", "GatedRepo", "its terms accepted at " + hub.url() + "/org/tiny");
    refuse("403 Forbidden", "GatedRepo", "its terms accepted at", "hf_mine");
    refuse("404 Not Found", "RevisionNotFound", "no such revision");
    refuse("404 Not Found", "", "no such repository or revision");
    refuse("418 I'm a teapot", "", "HTTP status 418");
    EXPECT_FALSE(fs::exists(cache));
    for (const Request& request : hub.requests()) EXPECT_TRUE(request.path.starts_with("/api/"));
    expect_failure(pull({"--quiet"}, "HF_HUB_OFFLINE=1 HF_TOKEN="), "HF_HUB_OFFLINE");
    // Listed for everybody, but not given to everybody.
    hub.add("config.json", "{}");
    misbehave("config.json", 99, [](const Request&, const Connection& connection) {
        connection.reply("403 Forbidden", "X-Error-Code: GatedRepo\r\n", "");
    });
    expect_failure(pull({"--quiet"}), "its terms accepted at");
    misbehave("config.json", 99, [](const Request&, const Connection& connection) {
        connection.reply("404 Not Found", "X-Error-Code: EntryNotFound\r\n", "");
    });
    expect_failure(pull({"--quiet"}), "/config.json)");
}

TEST_F(Pull, HostileListings) {
    hub.add("config.json", "{}");
    const auto list = [&](const std::string& text, const std::string& says) {
        SCOPED_TRACE(text.substr(0, 300));
        hub.intercept = [&](const Request& request, const Connection& connection) {
            if (!request.path.starts_with("/api/")) return false;
            connection.reply("200 OK", "", text);
            return true;
        };
        const Outcome o = pull({"--quiet", "--include", "*"});
        expect_failure(o, says);
        EXPECT_LT(o.err.size(), 1000u);
        EXPECT_EQ(o.err.find('\x1b'), o.err.npos);
        EXPECT_FALSE(fs::exists(cache));
    };
    const auto with = [&](const char* key, const nlohmann::json& value) {
        auto listing = hub.listing();
        listing["siblings"][0][key] = value;
        return listing.dump();
    };
    for (const std::string& name :
         {std::string("../config.json"), std::string("/etc/config.json"), std::string("a/../../b"),
          std::string("a//b"), std::string("."), std::string(""), std::string("a/"),
          std::string("nul\0.json", 9), std::string("\x1b[2Jx"),
          std::string("\xc2\x9b"
                      "2Jx"),
          std::string("line\nbreak"), std::string(300, 'x'), std::string(1'000'000, 'x')})
        list(with("rfilename", name), "impossible name");
    list(with("rfilename", 7), "impossible name");
    for (const nlohmann::json& size :
         {nlohmann::json(-1), nlohmann::json(1e300), nlohmann::json("1"), nlohmann::json(),
          nlohmann::json(uint64_t(1) << 63)})
        list(with("size", size), "impossible size");
    list(with("blobId", "../../x"), "without a checksum");
    list(with("lfs", {{"sha256", "../../x"}}), "without a checksum");
    auto listing = hub.listing();
    listing["siblings"].push_back(listing["siblings"][0]);
    list(listing.dump(), "twice");
    listing = hub.listing();
    listing["sha"] = "../../../x";
    list(listing.dump(), "names no commit");
    list("[]", "lists no files");
    list(R"({"siblings": {}})", "lists no files");
    list(R"({"sha": 1, "sha": 2})", "twice");
    list("<html>\n<body>Log in to the airport's network</body>", "not valid JSON");
    list(std::string(100'000, '\xff').insert(0, 1, '"'), "not valid JSON");
    list(std::string(1'000'000, '['), "nested too deeply");
    list("", "not valid JSON");
}

TEST_F(Pull, ListingsThatAreTooLong) {
    const auto list = [&](const std::string& text, const std::string& says) {
        hub.intercept = [&](const Request&, const Connection& connection) {
            connection.send("HTTP/1.1 200 OK\r\n\r\n");
            connection.send(text);
            return true;
        };
        expect_failure(pull({"--quiet"}), says);
    };
    hub.add("config.json", "{}");
    auto listing = hub.listing();
    for (int i = 0; i < 20'000; ++i) {
        listing["siblings"].push_back(listing["siblings"][0]);
        listing["siblings"].back()["rfilename"] = std::to_string(i) + ".json";
    }
    list(listing.dump(), "too many files");
    list(std::string(20'000'000, ' '), "the answer is too large");
}

TEST_F(Pull, NamesThatAreFileAndFolder) {
    hub.add("a.json", "{}");
    hub.add("a.json/b.json", "[]");
    expect_failure(pull({"--quiet"}), "cannot write to the cache");
}

TEST_F(Pull, DiskThatIsFull) {
    hub.add("model.safetensors", noise(300'000), true);
    hub.intercept = [&](const Request& request, const Connection& connection) {
        if (!request.path.starts_with("/api/")) return false;
        auto listing = hub.listing();
        listing["siblings"][0]["size"] = int64_t(1) << 50;
        connection.reply("200 OK", "", listing.dump());
        return true;
    };
    expect_failure(pull({"--quiet"}), "not enough free disk space");
    hub.intercept = {};
    expect_failure(pull({"--quiet"}, "ulimit -f 200; HF_TOKEN="), "cannot write file");
    EXPECT_GT(size_of(partial("model.safetensors")), 0u);
    const size_t had = size_of(partial("model.safetensors"));
    ASSERT_EQ(pull({"--quiet"}).status, 0);
    EXPECT_EQ(hub.requests("model.safetensors").back().header("range"),
              "bytes=" + std::to_string(had) + "-");
}

}  // namespace internvl
