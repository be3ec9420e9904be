// What strangers' servers may do to us, and where we do not go at all.
#include "io/fetch.h"

#include <sys/resource.h>

#include "e2e/hub_server.h"
#include "io/resolve.h"

namespace internvl {
namespace {

using Why = FetchError::Why;
using namespace std::chrono_literals;

struct Scene {
    HubServer server;
    FetchRules rules;
    FetchLimits limits;
    CancelToken cancel;
    std::vector<std::string> asked;  // of the resolver
    std::vector<std::vector<IpAddress>> answers = {{IpAddress::parse("127.0.0.1").value()}};

    Scene() {
        rules.urls.ports = {port()};
        rules.allowed = {AddressBlock::parse("127.0.0.1/32").value()};
        rules.resolve = [this](const std::string& host) {
            asked.push_back(host);
            return answers[std::min(asked.size(), answers.size()) - 1];
        };
        limits.bytes = 1 << 20;
    }
    uint16_t port() const {
        const std::string url = server.url();
        return uint16_t(std::stoi(url.substr(url.rfind(':') + 1)));
    }
    std::string url(const std::string& host, const std::string& target) const {
        return "http://" + host + ":" + std::to_string(port()) + target;
    }
    void script(std::function<void(const Request&, const Connection&)> act) {
        server.intercept = [act](const Request& request, const Connection& connection) {
            act(request, connection);
            return true;
        };
    }
    std::string get(const std::string& address, std::chrono::milliseconds patience = 5000ms) {
        limits.deadline = std::chrono::steady_clock::now() + patience;
        const auto body = fetch(address, rules, limits, cancel);
        return {reinterpret_cast<const char*>(body.data()), body.size()};
    }
    // Why nothing comes; fails where something does.
    Why refusal(const std::string& address, std::chrono::milliseconds patience = 5000ms) {
        try {
            ADD_FAILURE() << address << " gave " << get(address, patience).size() << " bytes";
        } catch (const FetchError& error) {
            EXPECT_EQ(std::string(error.what()).find("127.0.0.1"), std::string::npos);
            return error.why;
        }
        return Why::cancelled;
    }
};

TEST(Fetch, GivesTheBodyAndTellsNothingOfUs) {
    Scene scene;
    scene.script([](const Request&, const Connection& c) { c.reply("200 OK", "", "picture"); });
    EXPECT_EQ(scene.get(scene.url("pictures.example", "/a/b?c=d#e")), "picture");
    EXPECT_EQ(scene.asked, std::vector<std::string>{"pictures.example"});
    const Request request = scene.server.requests().at(0);
    EXPECT_EQ(request.path + "?" + request.query, "/a/b?c=d");
    EXPECT_EQ(request.header("host"), "pictures.example:" + std::to_string(scene.port()));
    EXPECT_EQ(request.header("accept-encoding"), "identity");
    for (const char* name : {"cookie", "authorization", "referer", "proxy-authorization"})
        EXPECT_EQ(request.header(name), "") << name;
    EXPECT_EQ(scene.get(scene.url("127.0.0.1", "/")), "picture");  // asks no resolver
    EXPECT_EQ(scene.asked.size(), 1u);
}

TEST(Fetch, NoPacketToWhatIsNotPublic) {
    Scene scene;
    scene.rules.allowed.clear();
    const std::string port = ":" + std::to_string(scene.port());
    for (const std::string host :
         {"127.0.0.1", "[::1]", "0.0.0.0", "10.0.0.1", "169.254.169.254", "[fe80::1]", "224.0.0.1",
          "[ff02::1]", "[::ffff:127.0.0.1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "[::7f00:1]"})
        EXPECT_EQ(scene.refusal("http://" + host + port + "/"), Why::not_allowed) << host;
    for (const std::string host : {"2130706433", "0x7f.1", "017700000001", "127.1"})
        EXPECT_EQ(scene.refusal("http://" + host + port + "/"), Why::malformed) << host;
    EXPECT_EQ(scene.refusal(scene.url("rebound.example", "/")), Why::not_allowed);
    EXPECT_TRUE(scene.server.requests().empty());
}

TEST(Fetch, EveryAddressOfANameMustBePublic) {
    Scene scene;
    scene.rules.allowed.clear();
    scene.answers = {
        {IpAddress::parse("93.184.216.34").value(), IpAddress::parse("127.0.0.1").value()}};
    EXPECT_EQ(scene.refusal(scene.url("two.example", "/")), Why::not_allowed);
    EXPECT_EQ(scene.asked.size(), 1u);
    EXPECT_TRUE(scene.server.requests().empty());
    scene.answers = {{}};
    EXPECT_EQ(scene.refusal(scene.url("none.example", "/")), Why::failed);
}

// The name is asked for once; a second answer, which would lead elsewhere, is never heard.
TEST(Fetch, ANameThatChangesItsMind) {
    Scene scene;
    scene.answers = {{IpAddress::parse("127.0.0.1").value()},
                     {IpAddress::parse("169.254.169.254").value()}};
    scene.script([](const Request&, const Connection& c) { c.reply("200 OK", "", "first"); });
    EXPECT_EQ(scene.get(scene.url("rebinding.example", "/")), "first");
    EXPECT_EQ(scene.asked.size(), 1u);
}

TEST(Fetch, PortsSchemesAndHosts) {
    Scene scene;
    EXPECT_EQ(scene.refusal("http://good.example:22/"), Why::not_allowed);
    EXPECT_EQ(scene.refusal("gopher://good.example/"), Why::malformed);
    EXPECT_EQ(scene.refusal("ftp://good.example/"), Why::malformed);
    EXPECT_EQ(scene.refusal("http://good.example\\@127.0.0.1/"), Why::malformed);
    EXPECT_EQ(scene.refusal("http://good@127.0.0.1/"), Why::malformed);
    scene.rules.urls.allow = {"*.good.example"};
    EXPECT_EQ(scene.refusal(scene.url("bad.example", "/")), Why::not_allowed);
    EXPECT_TRUE(scene.asked.empty());
    EXPECT_TRUE(scene.server.requests().empty());
}

TEST(Fetch, RedirectsAreNewAddresses) {
    Scene scene;
    scene.script([&](const Request& request, const Connection& c) {
        const int left = std::stoi(request.path.substr(1));
        if (left == 0) return c.reply("200 OK", "", "here");
        const char* statuses[] = {"301 x", "302 x", "303 x", "307 x", "308 x"};
        c.reply(statuses[left % 5],
                "Set-Cookie: a=b\r\nLocation: /" + std::to_string(left - 1) + "\r\n", "not this");
    });
    for (const char* start : {"/0", "/1", "/2", "/3"})
        EXPECT_EQ(scene.get(scene.url("a.example", start)), "here") << start;
    EXPECT_EQ(scene.refusal(scene.url("a.example", "/4")), Why::not_allowed);
    for (const Request& request : scene.server.requests()) {
        EXPECT_EQ(request.header("cookie"), "");
        EXPECT_EQ(request.header("referer"), "");
    }
}

TEST(Fetch, RedirectsToWhereWeDoNotGo) {
    std::string to;
    Scene scene;
    scene.script([&](const Request&, const Connection& c) { c.redirect(to); });
    const auto refused = [&](const std::string& location) {
        to = location;
        const size_t before = scene.server.requests().size();
        EXPECT_EQ(scene.refusal(scene.url("a.example", "/")), Why::not_allowed) << location;
        EXPECT_EQ(scene.server.requests().size(), before + 1) << location;
    };
    for (const char* location :
         {"http://169.254.169.254/latest/meta-data/", "http://127.0.0.2/", "http://[::1]/",
          "//10.0.0.1/", "file:///etc/passwd", "gopher://a.example/", "ftp://a.example/",
          "http://a.example:22/", "http://user@a.example/", "http://2130706433/", "", "/a b"})
        refused(location);
    to = scene.url("a.example", "/");  // a loop
    EXPECT_EQ(scene.refusal(to), Why::not_allowed);
    // A name on the way that is not public.
    to = scene.url("inside.example", "/");
    scene.rules.resolve = [](const std::string& host) {
        return std::vector{
            IpAddress::parse(host == "a.example" ? "127.0.0.1" : "192.168.0.1").value()};
    };
    refused(to);
}

TEST(Fetch, StatusesAreTold) {
    Scene scene;
    scene.script([](const Request& request, const Connection& c) {
        c.reply(request.path.substr(1) + " x", "", "an error page");
    });
    for (const long status : {204, 206, 304, 400, 401, 403, 404, 418, 429, 500, 503}) {
        try {
            scene.get(scene.url("a.example", std::string("/").append(std::to_string(status))));
            ADD_FAILURE() << status;
        } catch (const FetchError& error) {
            EXPECT_EQ(error.why, Why::failed);
            EXPECT_EQ(error.status, status);
        }
    }
}

TEST(Fetch, NothingLargerThanTheLimit) {
    std::string head;
    size_t size = 0;
    Scene scene;
    scene.limits.bytes = 100'000;
    scene.script([&](const Request&, const Connection& c) {
        c.send("HTTP/1.1 200 OK\r\nConnection: close\r\n" + head + "\r\n");
        c.send(std::string(size, 'x'));
    });
    const auto set = [&](size_t bytes, const std::string& headers) {
        size = bytes;
        head = headers;
    };
    set(100'000, "");
    EXPECT_EQ(scene.get(scene.url("a.example", "/")).size(), 100'000u);
    set(100'001, "");
    EXPECT_EQ(scene.refusal(scene.url("a.example", "/")), Why::too_large);
    set(10, "Content-Length: 100001\r\n");
    EXPECT_EQ(scene.refusal(scene.url("a.example", "/")), Why::too_large);
    set(200'000, "Content-Length: 5\r\n");
    EXPECT_EQ(scene.get(scene.url("a.example", "/")).size(), 5u);
    set(10, "Content-Length: 500\r\n");
    EXPECT_EQ(scene.refusal(scene.url("a.example", "/")), Why::failed);
    set(10, "Content-Encoding: gzip\r\n");
    EXPECT_EQ(scene.refusal(scene.url("a.example", "/")), Why::failed);
    set(0, "X: " + std::string(90'000, 'y') + "\r\n");
    EXPECT_EQ(scene.refusal(scene.url("a.example", "/")), Why::failed);
}

long resident_kib() {
    std::ifstream file("/proc/self/statm");
    long pages = 0;
    file >> pages >> pages;
    return pages * (sysconf(_SC_PAGESIZE) / 1024);
}

TEST(Fetch, AnEndlessBodyTakesNoMoreThanTheLimit) {
    std::atomic<bool> end = false;
    std::atomic<long> sent = 0;
    Scene scene;
    scene.limits.bytes = 20 << 20;
    scene.script([&](const Request&, const Connection& c) {
        const std::string piece(1 << 16, 'x');
        c.send("HTTP/1.1 200 OK\r\n\r\n");
        while (!end && c.send(piece)) sent += long(piece.size());
    });
    const long before = resident_kib();
    EXPECT_EQ(scene.refusal(scene.url("a.example", "/")), Why::too_large);
#ifndef INTERNVL_SANITIZED  // it keeps what was freed
    EXPECT_LT(resident_kib() - before, 2 * (20 << 10));
#else
    (void)before;
#endif
    EXPECT_LT(sent, 40 << 20);
    end = true;
}

TEST(Fetch, SlowServersAreLeft) {
    std::atomic<bool> end = false;
    std::string kind;
    Scene scene;
    scene.rules.connect = 200ms;
    scene.rules.first_byte = 200ms;
    scene.script([&](const Request&, const Connection& c) {
        if (kind == "drops") c.send("HTTP/1.1 200 OK\r\n\r\n");
        while (!end) {
            if (kind == "drops" && !c.send("x")) return;
            std::this_thread::sleep_for(10ms);
        }
    });
    const auto took = [&](const char* how, std::chrono::milliseconds patience) {
        kind = how;
        const auto start = std::chrono::steady_clock::now();
        EXPECT_EQ(scene.refusal(scene.url("a.example", "/"), patience), Why::failed) << how;
        return std::chrono::steady_clock::now() - start;
    };
    EXPECT_LT(took("silence", 5000ms), 1500ms);  // by the first byte
    EXPECT_LT(took("drops", 500ms), 1500ms);     // by the whole
    end = true;
}

TEST(Fetch, EndsSoonAfterItIsCancelled) {
    std::atomic<bool> end = false;
    Scene scene;
    scene.script([&](const Request&, const Connection& c) { c.hold([&] { return end.load(); }); });
    std::chrono::steady_clock::time_point cancelled;
    std::thread canceller([&] {
        while (scene.server.requests().empty()) std::this_thread::sleep_for(1ms);
        cancelled = std::chrono::steady_clock::now();
        scene.cancel.cancel();
    });
    EXPECT_EQ(scene.refusal(scene.url("a.example", "/")), Why::cancelled);
    const auto heard = std::chrono::steady_clock::now();
    canceller.join();
    EXPECT_LT(heard - cancelled, 100ms);
    end = true;
}

TEST(Fetch, TheEnvironmentNamesNoProxy) {
    Scene scene;
    scene.script([](const Request&, const Connection& c) { c.reply("200 OK", "", "direct"); });
    for (const char* name : {"http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"})
        ::setenv(name, "http://127.0.0.9:9", 1);
    EXPECT_EQ(scene.get(scene.url("a.example", "/")), "direct");
    for (const char* name : {"http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"})
        ::unsetenv(name);
}

TEST(Resolve, TheSystemsAnswer) {
    const auto soon = std::chrono::steady_clock::now() + 5s;
    const auto addresses = resolve_host("localhost", soon, {});
    ASSERT_FALSE(addresses.empty());
    for (const IpAddress& address : addresses) EXPECT_FALSE(may_connect(address, {}));
    CancelToken cancel;
    cancel.cancel();
    resolve_host("name.invalid", soon, cancel);  // returns at once, whatever the system does
    EXPECT_LT(std::chrono::steady_clock::now(), soon);
}

}  // namespace
}  // namespace internvl
