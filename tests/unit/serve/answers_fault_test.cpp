// The whole way of a request, with an engine that fails or stands still (S6 and O2 of the
// contract).
#include <atomic>
#include <condition_variable>
#include <mutex>

#include "golden/reference.h"
#include "serve/answers.h"
#include "wire.h"

namespace internvl {

namespace {

class FaultTest : public WireTest {
  public:
    FaultTest() {
        settings.warmup = false;
        settings.media_sandbox = "none";
        settings.media_workers = 1;
        engine().context().watch = [this](const std::string& stage, const View&) {
            if (stage == "text/embeddings") on_pass();
        };
        chat = [this](const std::shared_ptr<Call>& call, const nlohmann::json& body) {
            answers->chat(call, body);
        };
        service.status = [this] {
            return ServiceStatus{.loaded = true, .stalled = answers->stalled_s() > 0.05};
        };
        start();
        answers = std::make_unique<Answers>(engine(), settings, std::vector<std::string>{"demo"},
                                            *router, metrics, log);
    }
    ~FaultTest() override {
        server->stop();
        thread.join();
        router->stop_workers();
        answers.reset();
        engine().context().watch = {};
    }
    static Engine& engine() { return reference("tiny-1b").engine(); }
    static std::string question(bool stream) {
        nlohmann::json body = {{"model", "demo"}, {"max_tokens", 40}, {"temperature", 0}};
        body["messages"] = {{{"role", "user"}, {"content", "Tell me a story."}}};
        body["ignore_eos"] = true;
        body["stream"] = stream;
        return post("/v1/chat/completions", body.dump());
    }

    // Before each pass of the decoder: the prompt's, then one for each token that follows.
    std::function<void()> on_pass = [] {};
    Settings settings;
    std::unique_ptr<Answers> answers;
};

size_t count(const std::string& text, const std::string& part) {
    size_t n = 0;
    for (size_t at = text.find(part); at != text.npos; at = text.find(part, at + 1)) ++n;
    return n;
}

}  // namespace

// S6: what has been said stands, then comes the error, nested, and no [DONE].
TEST_F(FaultTest, AfterFiveTokensItIsAnEvent) {
    std::atomic<int> passes = 0;
    on_pass = [&] {
        if (++passes == 6) throw std::runtime_error("secret of the inside");
    };
    Wire wire(port);
    wire.send(question(true));
    ASSERT_TRUE(wire.read_until("\r\n0\r\n\r\n"));  // the connection is still good
    EXPECT_NE(wire.seen.find("HTTP/1.1 200 OK"), std::string::npos);
    EXPECT_GE(count(wire.seen, "\"delta\":{\"content\":"), 1u);
    EXPECT_EQ(wire.seen.find("[DONE]"), std::string::npos);
    EXPECT_EQ(wire.seen.find("secret"), std::string::npos);
    const std::string event = wire.seen.substr(wire.seen.rfind("data: ") + 6);
    const auto error = nlohmann::json::parse(event.substr(0, event.find("\n\n")))["error"];
    EXPECT_EQ(error["code"], "internal_error");
    EXPECT_EQ(error["type"], "server_error");
    EXPECT_TRUE(error["param"].is_null());
    const size_t id = wire.seen.find("x-request-id: ") + 14;
    EXPECT_EQ(error["message"], "Internal error, request id " +
                                    wire.seen.substr(id, wire.seen.find("\r\n", id) - id));
    wire.seen.clear();
    wire.send(question(true));  // nothing is left of it
    ASSERT_TRUE(wire.read_until("\r\n0\r\n\r\n"));
    EXPECT_NE(wire.seen.find("[DONE]"), std::string::npos);
}

// S6: before anything was said it is a status, once.
TEST_F(FaultTest, BeforeThatItIsA500) {
    for (const int pass : {1, 6}) {
        std::atomic<int> passes = 0;
        on_pass = [&] {
            if (++passes == pass) throw std::runtime_error("secret of the inside");
        };
        const std::string answer = ask(question(false));
        EXPECT_EQ(status_of(answer), 500);
        EXPECT_NE(answer.find("\r\nx-should-retry: false\r\n"), std::string::npos);
        EXPECT_EQ(answer.find("Retry-After"), std::string::npos);
        EXPECT_EQ(answer.find("secret"), std::string::npos);
        const auto error = nlohmann::json::parse(answer.substr(answer.find("\r\n\r\n")))["error"];
        EXPECT_EQ(error["code"], "internal_error");
        const size_t id = answer.find("x-request-id: ") + 14;
        EXPECT_EQ(error["message"],
                  "Internal error, request id " + answer.substr(id, answer.find("\r\n", id) - id));
        on_pass = [] {};
        EXPECT_EQ(status_of(ask(question(false))), 200);
    }
}

// O2: a step that does not end.
TEST_F(FaultTest, AStandstillIsSeen) {
    std::mutex mutex;
    std::condition_variable wake;
    bool go_on = false;
    on_pass = [&] {
        std::unique_lock lock(mutex);
        wake.wait(lock, [&] { return go_on; });
    };
    Wire held(port);
    held.send(question(false));
    std::string seen;
    for (int i = 0; i < 200 && seen.find("stalled") == seen.npos; ++i) {
        std::this_thread::sleep_for(std::chrono::milliseconds(10));
        seen = ask(get("/livez"));
    }
    EXPECT_EQ(status_of(seen), 503);
    EXPECT_NE(seen.find(R"({"status":"stalled","progress":1.0})"), std::string::npos) << seen;
    EXPECT_EQ(status_of(ask(get("/health"))), 503);
    EXPECT_EQ(status_of(ask(get("/readyz"))), 200);
    const std::string refused = ask(question(false));
    EXPECT_EQ(status_of(refused), 503);
    EXPECT_NE(refused.find("engine_unavailable"), std::string::npos);
    EXPECT_NE(refused.find("Retry-After: 10\r\n"), std::string::npos);
    {
        const std::lock_guard lock(mutex);
        go_on = true;
    }
    wake.notify_all();
    EXPECT_EQ(status_of(held.response()), 200);
    EXPECT_EQ(status_of(ask(get("/livez"))), 200);
    EXPECT_EQ(status_of(ask(question(false))), 200);
}

}  // namespace internvl
