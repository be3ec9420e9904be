// `internvl pull`: where things lie, and what happens when connections and processes break.
#include <signal.h>
#include <spawn.h>

#include "pull_fixture.h"

namespace internvl {

namespace {

// The program at work, with the test beside it.
class Child {
  public:
    Child(const std::string& environment, const std::vector<std::string>& options) {
        std::stringstream text;
        text << "HF_TOKEN= " << environment << "exec "
             << quoted(std::string(INTERNVL_BINARY_DIR) + "/internvl");
        for (const std::string& option : options) text << ' ' << quoted(option);
        text << " > " << quoted(folder_ / "out") << " 2> " << quoted(folder_ / "err");
        const std::string command = text.str();
        const char* arguments[] = {"sh", "-c", command.c_str(), nullptr};
        EXPECT_EQ(posix_spawn(&pid_, "/bin/sh", nullptr, nullptr,
                              const_cast<char* const*>(arguments), environ),
                  0);
    }
    ~Child() {
        if (pid_) end(SIGKILL);
    }
    // Its status, or minus the signal that ended it.
    int end(int signal = 0) {
        if (signal) ::kill(pid_, signal);
        int status = 0;
        ::waitpid(std::exchange(pid_, 0), &status, 0);
        return WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    }
    std::string err() const {
        return fs::exists(folder_ / "err") ? read_text(folder_ / "err") : "";
    }

  private:
    TemporaryFolder folder_;
    pid_t pid_ = 0;
};

// Until it is so; a minute without it is a failure.
void wait_until(const std::function<bool()>& so) {
    for (int i = 0; i < 6000 && !so(); ++i) ::usleep(10'000);
    EXPECT_TRUE(so());
}

}  // namespace

TEST_F(Pull, LayoutIsHuggingFaceHubs) {
    for (const auto& entry : fs::directory_iterator(golden("checkpoints/tiny-1b")))
        hub.add(entry.path().filename(), read_text(entry.path()),
                entry.path().extension() == ".safetensors");
    hub.add("pytorch_model.bin", "left out", true);
    hub.add("examples/a picture.jpg", "left out");
    hub.add("code/empty.py", "");
    const Outcome o = pull();
    ASSERT_EQ(o.status, 0) << o.err;
    const std::string snapshot = repository() + "/snapshots/" + HubServer::commit;
    EXPECT_EQ(o.out, snapshot + "\n");
    EXPECT_NE(o.err.find("left out: examples/a picture.jpg, pytorch_model.bin"), o.err.npos);
    EXPECT_EQ(read_text(repository() + "/refs/main"), HubServer::commit);
    EXPECT_EQ(fs::read_symlink(snapshot + "/model.safetensors"),
              "../../blobs/" + hub.blob("model.safetensors"));
    EXPECT_EQ(fs::read_symlink(snapshot + "/code/empty.py"),
              "../../../blobs/e69de29bb2d1d6434b8b29ae775ad8c2e48c5391");
    EXPECT_FALSE(fs::exists(snapshot + "/pytorch_model.bin"));
    for (const auto& entry : fs::directory_iterator(repository() + "/blobs"))
        EXPECT_FALSE(entry.path().string().ends_with(".incomplete")) << entry.path();

    const Outcome inspect = run_program({"inspect", "org/tiny", "--json"}, environment());
    ASSERT_EQ(inspect.status, 0) << inspect.err;
    EXPECT_EQ(json_lines(inspect.out)[0]["problems"], nlohmann::json::array());

    // All is there: only the list is asked for.
    const size_t before = hub.requests().size();
    const Outcome again = pull({"--json", "--quiet"});
    EXPECT_EQ(again.err, "");
    EXPECT_EQ(hub.requests().size(), before + 1);
    const auto report = json_lines(again.out).at(0);
    EXPECT_EQ(report["path"], snapshot);
    EXPECT_EQ(report["commit"], HubServer::commit);
    EXPECT_EQ(report["files"].size(), 10u);
    EXPECT_EQ(report["fetched_bytes"], 0);
    EXPECT_EQ(report["skipped"], nlohmann::json({"examples/a picture.jpg", "pytorch_model.bin"}));
}

TEST_F(Pull, OptionsChooseWhatAndWhere) {
    hub.add("config.json", "{}");
    hub.add("a b/\xc3\xa9+#?.bin", "odd", true);
    hub.add("a b/other.bin", "other", true);
    // The server sees the name as an address writes it.
    hub.intercept = [&](const Request& request, const Connection& connection) {
        if (!request.path.ends_with("/a%20b/%C3%A9%2B%23%3F.bin")) return false;
        connection.file(request, "odd");
        return true;
    };
    const Outcome o = pull({"--include", "a b/", "--exclude", "*other*", "--revision", "refs/pr/1",
                            "--cache", folder / "elsewhere", "--quiet", "--jobs", "1"});
    ASSERT_EQ(o.status, 0) << o.err;
    EXPECT_EQ(hub.requests()[0].path, "/api/models/org/tiny/revision/refs%2Fpr%2F1");
    EXPECT_EQ(hub.requests()[0].query, "blobs=true");
    EXPECT_EQ(hub.requests().size(), 2u);
    const std::string root = folder / "elsewhere/models--org--tiny";
    EXPECT_EQ(read_text(root + "/refs/refs/pr/1"), HubServer::commit);
    EXPECT_EQ(read_text(o.out.substr(0, o.out.size() - 1) + "/a b/\xc3\xa9+#?.bin"), "odd");
    EXPECT_FALSE(fs::exists(cache));
    expect_failure(pull({"--exclude", "*"}), "no file of the repository is wanted");
    expect_failure(pull({"--revision", "../../x"}), "not a revision", 2);
    expect_failure(run_program({"pull", "../x"}, environment()), "not a repository id", 2);
    expect_failure(pull({"--timeout", "soon"}), "timeout", 2);
}

TEST_F(Pull, TokenStaysWithItsHost) {
    HubServer cdn;
    hub.add("config.json", "{}");
    hub.add("moved.json", "[]");
    hub.add("model.safetensors", noise(100'000), true);
    hub.intercept = [&](const Request& request, const Connection& connection) {
        if (request.path.ends_with("/model.safetensors"))
            connection.redirect(cdn.url() + "/signed?for=you");
        else if (request.path.ends_with("/moved.json"))
            connection.redirect("/renamed");  // the same host
        else if (request.path == "/renamed")
            connection.file(request, "[]");
        else
            return false;
        return true;
    };
    cdn.intercept = [&](const Request& request, const Connection& connection) {
        connection.file(request, hub.content("model.safetensors"));
        return true;
    };
    const Outcome o = pull({"--quiet"}, "HF_TOKEN=hf_secret");
    ASSERT_EQ(o.status, 0) << o.err;
    EXPECT_EQ(hub.requests().size(), 5u);
    for (const Request& request : hub.requests())
        EXPECT_EQ(request.header("authorization"), "Bearer hf_secret") << request.path;
    ASSERT_EQ(cdn.requests().size(), 1u);
    EXPECT_EQ(cdn.requests()[0].header("authorization"), "");
    EXPECT_EQ(cdn.requests()[0].path, "/signed");
}

TEST_F(Pull, TokenFromTheFile) {
    hub.add("config.json", "{}");
    fs::create_directories(folder / "home");
    folder.write("home/token", "hf_from_file\n");
    ASSERT_EQ(pull({"--quiet"}).status, 0);
    EXPECT_EQ(hub.requests()[0].header("authorization"), "Bearer hf_from_file");
    folder.write("home/token", "two\r\nlines\n");
    expect_failure(pull({"--quiet"}), "the token has characters");
}

TEST_F(Pull, GoesOnAfterKill) {
    hub.add("model.safetensors", noise(3'000'000), true);
    std::atomic<bool> killed = false;
    misbehave("model.safetensors", 1, [&](const Request& request, const Connection& connection) {
        connection.begin_file(request, hub.content("model.safetensors"), 2'000'000);
        connection.hold([&] { return killed.load(); });
    });
    Child child(environment(), {"pull", "org/tiny", "--quiet"});
    wait_until([&] { return size_of(partial("model.safetensors")) == 2'000'000; });
    EXPECT_EQ(child.end(SIGKILL), -SIGKILL);
    killed = true;
    EXPECT_FALSE(fs::exists(blob("model.safetensors")));
    EXPECT_FALSE(fs::exists(repository() + "/refs/main"));
    const Outcome o = pull({"--quiet"});
    ASSERT_EQ(o.status, 0) << o.err;
    ASSERT_EQ(hub.requests("model.safetensors").size(), 2u);
    EXPECT_EQ(hub.requests("model.safetensors")[1].header("range"), "bytes=2000000-");
    EXPECT_EQ(pulled("model.safetensors"), hub.content("model.safetensors"));
    EXPECT_FALSE(fs::exists(partial("model.safetensors")));
}

TEST_F(Pull, InterruptKeepsWhatCame) {
    hub.add("model.safetensors", noise(300'000), true);
    misbehave("model.safetensors", 1, [&](const Request& request, const Connection& connection) {
        connection.begin_file(request, hub.content("model.safetensors"), 100'000);
        connection.hold([] { return false; });  // the client goes away
    });
    Child child(environment(), {"pull", "org/tiny"});
    wait_until([&] { return size_of(partial("model.safetensors")) == 100'000; });
    EXPECT_EQ(child.end(SIGINT), 130);
    EXPECT_NE(child.err().find("interrupted; the same command goes on"), std::string::npos);
    ASSERT_EQ(pull({"--quiet"}).status, 0);
    EXPECT_EQ(hub.requests("model.safetensors").at(1).header("range"), "bytes=100000-");
}

TEST_F(Pull, SecondProcessWaits) {
    hub.add("model.safetensors", noise(300'000), true);
    std::atomic<bool> go = false;
    misbehave("model.safetensors", 1, [&](const Request&, const Connection& connection) {
        connection.hold([&] { return go.load(); });
        connection.reply("200 OK", "", hub.content("model.safetensors"));
    });
    Child first(environment(), {"pull", "org/tiny"});
    wait_until([&] { return hub.requests("model.safetensors").size() == 1; });
    Child second(environment(), {"pull", "org/tiny"});
    wait_until([&] {
        return second.err().find("waiting for another process that downloads model.safetensors") !=
               std::string::npos;
    });
    go = true;
    EXPECT_EQ(first.end(), 0);
    EXPECT_EQ(second.end(), 0);
    EXPECT_EQ(hub.requests("model.safetensors").size(), 1u);
    EXPECT_EQ(pulled("model.safetensors"), hub.content("model.safetensors"));
}

TEST_F(Pull, LostConnectionsAreTakenUpAgain) {
    hub.add("model.safetensors", noise(6'000'000), true);
    misbehave("model.safetensors", 4, [&](const Request& request, const Connection& connection) {
        connection.begin_file(request, hub.content("model.safetensors"), 1'300'000);
    });
    const Outcome o = pull({"--retries", "1"});  // that many in vain, not that many at all
    ASSERT_EQ(o.status, 0) << o.err;
    const auto requests = hub.requests("model.safetensors");
    ASSERT_EQ(requests.size(), 5u);
    EXPECT_EQ(requests[4].header("range"), "bytes=5200000-");
    EXPECT_EQ(pulled("model.safetensors"), hub.content("model.safetensors"));
    EXPECT_NE(o.err.find("trying again"), o.err.npos);
}

TEST_F(Pull, ServerThatIsGone) {
    hub.add("model.safetensors", noise(1'000), true);
    misbehave("model.safetensors", 99, [](const Request&, const Connection&) {});
    expect_failure(pull({"--quiet", "--retries", "1"}), "broke off");
    EXPECT_EQ(hub.requests("model.safetensors").size(), 2u);
    expect_failure(run_program({"pull", "org/tiny", "--quiet", "--retries", "0"},
                               environment() + "HF_ENDPOINT=http://127.0.0.1:1 "),
                   "broke off");
    expect_failure(
        run_program({"pull", "org/tiny", "--quiet"}, environment() + "HF_ENDPOINT=file:///etc "),
        "HF_ENDPOINT");
}

TEST_F(Pull, BusyServersAreAskedAgain) {
    hub.add("config.json", "{}");
    std::atomic<int> listings = 0;
    hub.intercept = [&](const Request& request, const Connection& connection) {
        if (request.path.starts_with("/api/") && listings++ == 0)
            connection.reply("429 Too Many Requests", "Retry-After: 1\r\n", "slow down");
        else if (request.path.ends_with("config.json") && hub.requests("config.json").size() == 1)
            connection.reply("503 Service Unavailable", "", std::string(200'000, 'x'));
        else
            return false;
        return true;
    };
    const Outcome o = pull();
    ASSERT_EQ(o.status, 0) << o.err;
    EXPECT_NE(o.err.find("HTTP status 429"), o.err.npos) << o.err;
    EXPECT_NE(o.err.find("trying again in 1.0 s"), o.err.npos) << o.err;
    EXPECT_NE(o.err.find("HTTP status 503"), o.err.npos) << o.err;
}

TEST_F(Pull, SilenceIsALostConnection) {
    hub.add("model.safetensors", noise(300'000), true);
    misbehave("model.safetensors", 1, [&](const Request& request, const Connection& connection) {
        connection.begin_file(request, hub.content("model.safetensors"), 100'000);
        connection.hold([] { return false; });
    });
    const Outcome o = pull({"--timeout", "1s", "--retries", "1"});
    ASSERT_EQ(o.status, 0) << o.err;
    EXPECT_EQ(hub.requests("model.safetensors").at(1).header("range"), "bytes=100000-");
}

}  // namespace internvl
