#pragma once
// A router over a service without a model, and a client that says bytes as they are.
#include <arpa/inet.h>
#include <gtest/gtest.h>
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <thread>

#include "serve/routes.h"

namespace internvl {

// One connection. What it reads has a time limit, so that a test ends.
class Wire {
  public:
    explicit Wire(int port) : fd_(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0)) {
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_port = htons(uint16_t(port));
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        if (::connect(fd_, reinterpret_cast<sockaddr*>(&address), sizeof address) != 0) close();
    }
    ~Wire() { close(); }
    Wire(const Wire&) = delete;
    Wire& operator=(const Wire&) = delete;

    void close() {
        if (fd_ >= 0) ::close(fd_);
        fd_ = -1;
    }
    bool send(const std::string& bytes) {
        size_t at = 0;
        while (at < bytes.size()) {
            const ssize_t n = ::send(fd_, bytes.data() + at, bytes.size() - at, MSG_NOSIGNAL);
            if (n <= 0) return false;
            at += size_t(n);
        }
        return true;
    }
    // More bytes into `seen`; false at the end of the connection or of the time.
    bool more(int ms = 3000) {
        pollfd p{fd_, POLLIN, 0};
        if (fd_ < 0 || ::poll(&p, 1, ms) != 1) return false;
        char buffer[65536];
        const ssize_t n = ::recv(fd_, buffer, sizeof buffer, 0);
        if (n <= 0) {
            ended_ = true;
            return false;
        }
        seen.append(buffer, size_t(n));
        return true;
    }
    bool read_until(const std::string& mark, int ms = 3000) {
        while (seen.find(mark) == seen.npos)
            if (!more(ms)) return false;
        return true;
    }
    bool read_to_end(int ms = 3000) {
        while (more(ms)) {
        }
        return ended_;
    }
    // One response with Content-Length, taken from `seen`.
    std::string response() {
        if (!read_until("\r\n\r\n")) return "";
        const size_t head = seen.find("\r\n\r\n") + 4;
        size_t length = 0;
        if (const size_t at = seen.find("Content-Length: "); at < head)
            length = std::stoul(seen.substr(at + 16));
        while (seen.size() < head + length)
            if (!more()) return "";
        const std::string whole = seen.substr(0, head + length);
        seen.erase(0, head + length);
        return whole;
    }

    std::string seen;

  private:
    int fd_;
    bool ended_ = false;
};

inline int status_of(const std::string& response) {
    return response.size() > 12 ? std::stoi(response.substr(9, 3)) : 0;
}

inline std::string get(const std::string& path, const std::string& headers = "") {
    return "GET " + path + " HTTP/1.1\r\nHost: localhost\r\n" + headers + "\r\n";
}

inline std::string post(const std::string& path, const std::string& body,
                        const std::string& headers = "") {
    return "POST " + path +
           " HTTP/1.1\r\nHost: localhost\r\nContent-Length: " + std::to_string(body.size()) +
           "\r\n" + headers + "\r\n" + body;
}

// The server on a port of its own, with a service that a test may change before start().
class WireTest : public testing::Test {
  public:
    using Json = nlohmann::ordered_json;

    WireTest() {
        status = {.loaded = true, .progress = 1};
        service.status = [this] { return status; };
        service.models = [] { return Json{{"object", "list"}, {"data", Json::array()}}; };
        service.model = [](const std::string& id) -> std::optional<Json> {
            if (id != "org/model") return std::nullopt;
            return Json{{"id", id}};
        };
        service.version = [] { return Json{{"version", "0"}}; };
        service.openapi = [] { return Json::object(); };
        service.docs = [] { return std::string("docs"); };
        service.page = [](const std::string&) { return std::optional<HttpResponse>(); };
        service.count = [] {};
        service.chat = [this](const std::shared_ptr<Call>& call, const nlohmann::json& body) {
            if (chat) return chat(call, body);
            Router::reply(*call, {{"got", body}});
        };
        service.completions = service.tokenize = service.detokenize = service.estimate =
            service.input_tokens = service.chat;
        service.estimate_query = [](const std::shared_ptr<Call>& call) {
            Router::reply(*call, {{"query", call->head.query}});
        };
    }
    ~WireTest() override {
        if (server) server->stop();
        if (thread.joinable()) thread.join();
    }
    void start() {
        router = std::make_unique<Router>(service, metrics, log, 2);
        router->set_access(std::make_shared<const Access>(access));
        server = std::make_unique<HttpServer>(limits, router->handler());
        port = server->listen("127.0.0.1", 0, Router::door_public);
        thread = std::thread([this] { server->run(); });
    }
    std::string ask(const std::string& request) {
        Wire wire(port);
        wire.send(request);
        return wire.response();
    }

    ServiceStatus status;
    Service service;
    Service::Answer chat;
    Access access;
    HttpLimits limits;
    Metrics metrics{"test"};
    AccessLog log{"/dev/null", "json", "info"};
    std::unique_ptr<Router> router;
    std::unique_ptr<HttpServer> server;
    std::thread thread;
    int port = 0;
};

}  // namespace internvl
