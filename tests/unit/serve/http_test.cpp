#include <future>

#include "wire.h"

namespace internvl {

using namespace std::chrono_literals;

TEST_F(WireTest, KeepsAConnectionAndAnswersPipelinedRequestsInOrder) {
    start();
    Wire wire(port);
    wire.send(get("/version") + get("/v1/models") + post("/v1/chat/completions", R"({"a":1})") +
              get("/health"));
    EXPECT_NE(wire.response().find("version"), std::string::npos);
    EXPECT_NE(wire.response().find("list"), std::string::npos);
    EXPECT_NE(wire.response().find(R"({"got":{"a":1}})"), std::string::npos);
    EXPECT_NE(wire.response().find(R"("status":"ok")"), std::string::npos);
}

TEST_F(WireTest, SaysEveryErrorInJson) {
    start();
    const auto expect = [&](const std::string& request, int wanted, const std::string& code) {
        const std::string response = ask(request);
        EXPECT_EQ(status_of(response), wanted) << request;
        EXPECT_NE(response.find("\"code\":\"" + code + "\""), std::string::npos) << response;
        EXPECT_NE(response.find("x-request-id: "), std::string::npos);
        EXPECT_NE(response.find("Content-Type: application/json"), std::string::npos);
    };
    expect(get("/nope"), 404, "unknown_endpoint");
    expect(post("/v1/responses", "{}"), 404, "unsupported_endpoint");
    expect(post("/v1/models", "{}"), 405, "method_not_allowed");
    expect(get("/v1/chat/completions"), 405, "method_not_allowed");
    expect(get("/v1/models/other"), 404, "model_not_found");
    expect(post("/v1/chat/completions", "{", ""), 400, "invalid_json");
    expect(post("/v1/chat/completions", "{}", "Content-Type: text/plain\r\n"), 415,
           "unsupported_media_type");
    expect("NONSENSE\r\n\r\n", 400, "invalid_http");
    expect("GET /health HTTP/1.1\r\n\r\n", 400, "invalid_http");
    expect(get("/health", "X: " + std::string(40000, 'x') + "\r\n"), 431, "header_too_large");
    expect(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n"
        "Transfer-Encoding: chunked\r\n\r\n{}",
        400, "invalid_http");
    expect(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n"
        "Content-Length: 3\r\n\r\n{}",
        400, "invalid_http");
    expect(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
        "Content-Length: 999999999999\r\n\r\n",
        413, "payload_too_large");
    EXPECT_NE(ask(post("/v1/models", "{}")).find("Allow: GET"), std::string::npos);
}

TEST_F(WireTest, FindsModelsByEncodedAndByRawName) {
    start();
    EXPECT_EQ(status_of(ask(get("/v1/models/org%2Fmodel"))), 200);
    EXPECT_EQ(status_of(ask(get("/v1/models/org/model"))), 200);
}

TEST_F(WireTest, ReadsChunkedBodies) {
    limits.body_bytes = 100;
    start();
    const std::string head =
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: "
        "chunked\r\n\r\n";
    const std::string response = ask(head + "3\r\n{\"a\r\n4\r\n\":1}\r\n0\r\n\r\n");
    EXPECT_EQ(status_of(response), 200);
    EXPECT_NE(response.find(R"({"a":1})"), std::string::npos);
    EXPECT_EQ(status_of(ask(head + "80\r\n" + std::string(128, ' '))), 413);
    EXPECT_EQ(status_of(ask(head + "zz\r\n")), 400);
}

TEST_F(WireTest, AsksForTheBodyOnlyWhenItIsWanted) {
    access.keys.add_list("alice:0123456789abcdef", {});
    start();
    const std::string expect =
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n"
        "Expect: 100-continue\r\n";
    EXPECT_EQ(status_of(ask(expect + "\r\n")), 401);
    Wire wire(port);
    wire.send(expect + "Authorization: Bearer 0123456789abcdef\r\n\r\n");
    ASSERT_TRUE(wire.read_until("HTTP/1.1 100 Continue\r\n\r\n"));
    wire.seen.clear();
    wire.send("{}");
    EXPECT_EQ(status_of(wire.response()), 200);
}

TEST_F(WireTest, StreamsInChunksAndCommentsSilence) {
    limits.keep_alive = 50ms;
    std::promise<void> go;
    chat = [&](const std::shared_ptr<Call>& call, const nlohmann::json&) {
        call->start({.type = "text/event-stream; charset=utf-8"});
        std::thread([call, waits = go.get_future().share()] {
            call->write("data: 1\n\n");
            waits.wait();
            call->write("data: [DONE]\n\n");
            call->finish();
        }).detach();
    };
    start();
    Wire wire(port);
    wire.send(post("/v1/chat/completions", "{}") + get("/version"));
    EXPECT_TRUE(wire.read_until("9\r\ndata: 1\n\n\r\n"));
    EXPECT_TRUE(wire.read_until("e\r\n: keep-alive\n\n\r\n"));
    go.set_value();
    EXPECT_TRUE(wire.read_until("data: [DONE]\n\n\r\n0\r\n\r\n"));
    EXPECT_TRUE(wire.read_until("version"));  // the connection goes on
}

TEST_F(WireTest, TellsAHandlerThatItsClientLeft) {
    std::promise<void> gone;
    chat = [&](const std::shared_ptr<Call>& call, const nlohmann::json&) {
        call->on_gone([&gone, call] {
            gone.set_value();
            call->finish();
        });
    };
    start();
    {
        Wire wire(port);
        wire.send(post("/v1/chat/completions", "{}"));
        std::this_thread::sleep_for(50ms);
    }
    EXPECT_EQ(gone.get_future().wait_for(2s), std::future_status::ready);
    std::this_thread::sleep_for(50ms);
    EXPECT_EQ(metrics.value("requests_total", {"chat", "499", "cancelled"}), 1);
    EXPECT_EQ(router->running(), 0);
}

TEST_F(WireTest, GivesUpOnAReaderWhoDoesNotRead) {
    limits.write_timeout = 200ms;
    std::promise<void> gone;
    chat = [&](const std::shared_ptr<Call>& call, const nlohmann::json&) {
        call->start({.type = "text/event-stream"});
        call->on_gone([&gone, call] {
            gone.set_value();
            call->finish();
        });
        std::thread([call] {
            for (int i = 0; i < 10000 && !call->gone(); ++i) {
                call->write(std::string(65536, 'x'));
                std::this_thread::sleep_for(1ms);
            }
        }).detach();
    };
    start();
    Wire wire(port);
    wire.send(post("/v1/chat/completions", "{}"));
    EXPECT_EQ(gone.get_future().wait_for(5s), std::future_status::ready);
}

TEST_F(WireTest, ClosesWhoIsTooSlowAndServesTheOthers) {
    limits.header_time = 200ms;
    limits.body_idle = 200ms;
    limits.connections = 8;
    start();
    Wire slow(port), slow_body(port);
    slow.send("GET /version HTTP/1.1\r\nHo");
    slow_body.send(
        "POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9\r\n\r\n{");
    EXPECT_TRUE(slow.read_to_end());
    EXPECT_TRUE(slow_body.read_to_end());
    EXPECT_EQ(status_of(slow_body.seen), 0);
    std::vector<std::unique_ptr<Wire>> idle;
    for (int i = 0; i < 200; ++i) idle.push_back(std::make_unique<Wire>(port));
    EXPECT_EQ(status_of(ask(get("/version"))), 200);
}

TEST_F(WireTest, RefusesStrangeHostsAndOrigins) {
    access.origins = {"https://chat.example"};
    start();
    EXPECT_EQ(status_of(ask("GET /version HTTP/1.1\r\nHost: evil.example\r\n\r\n")), 403);
    EXPECT_EQ(status_of(ask("GET /version HTTP/1.1\r\nHost: 0.0.0.0:23333\r\n\r\n")), 200);
    EXPECT_EQ(status_of(ask("GET /version HTTP/1.1\r\nHost: [::1]:1\r\n\r\n")), 200);
    EXPECT_EQ(status_of(ask(post("/v1/chat/completions", "{}", "Origin: http://evil.example\r\n"))),
              403);
    EXPECT_EQ(status_of(ask(post("/v1/chat/completions", "{}", "Origin: http://localhost\r\n"))),
              200);
    const std::string listed =
        ask(post("/v1/chat/completions", "{}", "Origin: https://chat.example\r\n"));
    EXPECT_NE(listed.find("Access-Control-Allow-Origin: https://chat.example\r\n"),
              std::string::npos);
    const std::string preflight = ask(
        "OPTIONS /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nOrigin: https://chat.example"
        "\r\nAccess-Control-Request-Headers: authorization, x-stainless-os\r\n\r\n");
    EXPECT_NE(preflight.find("Access-Control-Allow-Headers: authorization, x-stainless-os\r\n"),
              std::string::npos);
    EXPECT_EQ(ask("OPTIONS /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\n"
                  "Origin: https://evil.example\r\n\r\n")
                  .find("Access-Control"),
              std::string::npos);
}

TEST_F(WireTest, AsksForKeysWhereTheyAreDue) {
    access.keys.add_list("alice:0123456789abcdef,bob:fedcba9876543210", {});
    start();
    for (const char* open : {"/health", "/livez", "/readyz", "/version", "/openapi.json", "/docs"})
        EXPECT_EQ(status_of(ask(get(open))), 200) << open;
    for (const char* closed : {"/v1/models", "/v1/models/org/model", "/metrics", "/v1/estimate"}) {
        const std::string without = ask(get(closed));
        EXPECT_EQ(status_of(without), 401) << closed;
        EXPECT_NE(without.find("WWW-Authenticate: Bearer"), std::string::npos);
        EXPECT_EQ(status_of(ask(get(closed, "Authorization: Bearer wrong\r\n"))), 401);
        EXPECT_EQ(status_of(ask(get(closed, "Authorization: Bearer fedcba9876543210\r\n"))), 200);
    }
    EXPECT_EQ(status_of(ask(post("/tokenize", "{}"))), 401);
    Access rotated;
    rotated.keys.add_list("carol:cccccccccccccccc", {});
    router->set_access(std::make_shared<const Access>(rotated));
    EXPECT_EQ(status_of(ask(get("/v1/models", "Authorization: Bearer fedcba9876543210\r\n"))), 401);
    EXPECT_EQ(status_of(ask(get("/v1/models", "Authorization: Bearer cccccccccccccccc\r\n"))), 200);
}

TEST_F(WireTest, LimitsRequestsOfAKey) {
    access.keys.add_list("a:0123456789abcdef", {.rpm = 3});
    access.keys.add_list("b:fedcba9876543210", {});
    start();
    const std::string mine = post("/tokenize", "{}", "Authorization: Bearer 0123456789abcdef\r\n");
    for (int i = 0; i < 3; ++i) EXPECT_EQ(status_of(ask(mine)), 200);
    const std::string refused = ask(mine);
    EXPECT_EQ(status_of(refused), 429);
    EXPECT_NE(refused.find("Retry-After: 20\r\n"), std::string::npos);
    EXPECT_NE(refused.find("x-ratelimit-remaining-requests: 0\r\n"), std::string::npos);
    EXPECT_EQ(status_of(ask(post("/tokenize", "{}", "Authorization: Bearer fedcba9876543210\r\n"))),
              200);
}

TEST_F(WireTest, SaysHowTheServiceDoes) {
    status.loaded = false;
    status.progress = 0.5;
    start();
    EXPECT_EQ(status_of(ask(get("/livez"))), 200);
    EXPECT_EQ(status_of(ask(get("/readyz"))), 503);
    EXPECT_NE(ask(get("/health")).find(R"({"status":"loading","progress":0.5})"),
              std::string::npos);
    const std::string early = ask(post("/v1/chat/completions", "{}"));
    EXPECT_EQ(status_of(early), 503);
    EXPECT_NE(early.find("Retry-After: "), std::string::npos);
    status = {.loaded = true, .draining = true};
    const std::string late = ask(post("/v1/chat/completions", "{}"));
    EXPECT_NE(late.find("shutting_down"), std::string::npos);
    EXPECT_NE(late.find("Connection: close"), std::string::npos);
    status = {.loaded = true, .stalled = true};
    EXPECT_EQ(status_of(ask(get("/livez"))), 503);
    EXPECT_EQ(status_of(ask(post("/v1/chat/completions", "{}"))), 503);
}

TEST_F(WireTest, KeepsACleanRequestIdAndMakesOneOtherwise) {
    start();
    EXPECT_NE(ask(get("/version", "X-Request-Id: my.id-1\r\n")).find("x-request-id: my.id-1\r\n"),
              std::string::npos);
    EXPECT_EQ(ask(get("/version", "X-Request-Id: not clean\r\n")).find("not clean"),
              std::string::npos);
}

}  // namespace internvl
