#pragma once
// A hub on 127.0.0.1 that serves what a test puts in, as well or as badly as the test wants.
#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <map>
#include <mutex>
#include <thread>

#include "base/digest.h"
#include "support.h"

namespace internvl {

struct Request {
    std::string path, query;
    std::map<std::string, std::string> headers;  // names in lower case

    std::string header(const std::string& name) const {
        const auto at = headers.find(name);
        return at == headers.end() ? "" : at->second;
    }
};

// One connection, which ends with its answer.
class Connection {
  public:
    explicit Connection(int fd) : fd_(fd) {}
    ~Connection() { ::close(fd_); }

    // False once the client has gone.
    bool send(std::string_view text) const {
        while (!text.empty()) {
            const ssize_t n = ::send(fd_, text.data(), text.size(), MSG_NOSIGNAL);
            if (n <= 0) return false;
            text.remove_prefix(size_t(n));
        }
        return true;
    }
    void reply(const std::string& status, const std::string& headers, std::string_view body) const {
        send("HTTP/1.1 " + status + "\r\nConnection: close\r\n" + headers +
             "Content-Length: " + std::to_string(body.size()) + "\r\n\r\n");
        send(body);
    }
    void redirect(const std::string& to) const {
        reply("302 Found", "Location: " + to + "\r\n", "");
    }

    // As a good server does.
    void file(const Request& request, std::string_view content) const {
        const std::string range = request.header("range");
        if (range.empty()) return reply("200 OK", "", content);
        const size_t from = std::stoul(range.substr(6));  // bytes=FROM-
        if (from >= content.size()) return reply("416 Range Not Satisfiable", "", "");
        reply("206 Partial Content",
              "Content-Range: bytes " + std::to_string(from) + "-" +
                  std::to_string(content.size() - 1) + "/" + std::to_string(content.size()) +
                  "\r\n",
              content.substr(from));
    }
    // The beginning of a good answer, and no more of it.
    void begin_file(const Request& request, std::string_view content, size_t bytes) const {
        const std::string range = request.header("range");
        const size_t from = range.empty() ? 0 : std::stoul(range.substr(6));
        std::string head = from ? "HTTP/1.1 206 Partial Content\r\nContent-Range: bytes " +
                                      std::to_string(from) + "-" +
                                      std::to_string(content.size() - 1) + "/" +
                                      std::to_string(content.size()) + "\r\n"
                                : "HTTP/1.1 200 OK\r\n";
        send(head + "Content-Length: " + std::to_string(content.size() - from) + "\r\n\r\n");
        send(content.substr(from, bytes));
    }
    // Until the client gives up, or `end` says so.
    void hold(const std::function<bool()>& end) const {
        pollfd events{fd_, POLLIN | POLLRDHUP, 0};
        while (!end() && ::poll(&events, 1, 10) == 0) continue;
    }

    // The request line and headers.
    Request receive() const {
        std::string text;
        char piece[4096];
        while (text.find("\r\n\r\n") == text.npos) {
            const ssize_t n = ::recv(fd_, piece, sizeof piece, 0);
            if (n <= 0) return {};
            text.append(piece, size_t(n));
        }
        std::stringstream lines(text);
        std::string method, target, line;
        lines >> method >> target;
        std::getline(lines, line);
        Request request;
        const size_t question = target.find('?');
        request.path = target.substr(0, question);
        if (question != target.npos) request.query = target.substr(question + 1);
        while (std::getline(lines, line) && line != "\r") {
            const size_t colon = line.find(": ");
            std::string name = line.substr(0, colon);
            for (char& c : name) c = char(std::tolower(static_cast<unsigned char>(c)));
            request.headers[name] = line.substr(colon + 2, line.size() - colon - 3);
        }
        return request;
    }

  private:
    int fd_;
};

class HubServer {
  public:
    static constexpr const char* commit = "0123456789abcdef0123456789abcdef01234567";
    // Answers before the server does; true when it has.
    std::function<bool(const Request&, const Connection&)> intercept;

    HubServer() {
        listener_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t size = sizeof address;
        EXPECT_EQ(::bind(listener_, reinterpret_cast<sockaddr*>(&address), size), 0);
        EXPECT_EQ(::listen(listener_, 64), 0);
        ::getsockname(listener_, reinterpret_cast<sockaddr*>(&address), &size);
        port_ = ntohs(address.sin_port);
        acceptor_ = std::thread([this] { accept_all(); });
    }
    ~HubServer() {
        ending_ = true;
        acceptor_.join();
        for (std::thread& thread : threads_) thread.join();
        ::close(listener_);
    }

    std::string url() const { return "http://127.0.0.1:" + std::to_string(port_); }

    void add(const std::string& name, const std::string& content, bool large = false) {
        files_[name] = {content, large};
    }
    const std::string& content(const std::string& name) const { return files_.at(name).content; }
    std::string blob(const std::string& name) const {
        const File& file = files_.at(name);
        if (file.large) return sha256_hex(file.content.data(), file.content.size());
        const std::string head = "blob " + std::to_string(file.content.size());
        return Digest(Digest::Kind::sha1)
            .update(head.c_str(), head.size() + 1)
            .update(file.content.data(), file.content.size())
            .hex();
    }
    nlohmann::json listing() const {
        auto siblings = nlohmann::json::array();
        for (const auto& [name, file] : files_) {
            nlohmann::json entry = {{"rfilename", name},
                                    {"size", file.content.size()},
                                    {"blobId", std::string(40, 'a')}};
            if (file.large)
                entry["lfs"] = {{"sha256", blob(name)}, {"size", file.content.size()}};
            else
                entry["blobId"] = blob(name);
            siblings.push_back(entry);
        }
        return {{"id", "org/tiny"}, {"sha", commit}, {"siblings", siblings}};
    }

    std::vector<Request> requests() const {
        const std::lock_guard lock(mutex_);
        return requests_;
    }
    // Of one file, in order.
    std::vector<Request> requests(const std::string& name) const {
        std::vector<Request> all = requests();
        std::erase_if(all, [&](const Request& r) { return !r.path.ends_with("/" + name); });
        return all;
    }

  private:
    struct File {
        std::string content;
        bool large = false;
    };

    void accept_all() {
        while (!ending_) {
            pollfd events{listener_, POLLIN, 0};
            if (::poll(&events, 1, 10) != 1) continue;
            const int fd = ::accept4(listener_, nullptr, nullptr, SOCK_CLOEXEC);
            if (fd >= 0) threads_.emplace_back([this, fd] { serve(fd); });
        }
    }

    void serve(int fd) {
        const Connection connection(fd);
        const Request request = connection.receive();
        if (request.path.empty()) return;
        {
            const std::lock_guard lock(mutex_);
            requests_.push_back(request);
        }
        if (intercept && intercept(request, connection)) return;
        if (request.path.starts_with("/api/models/"))
            return connection.reply("200 OK", "", listing().dump());
        const std::string base = std::string("/org/tiny/resolve/") + commit + "/";
        const auto at = request.path.starts_with(base)
                            ? files_.find(request.path.substr(base.size()))
                            : files_.end();
        if (at == files_.end()) return connection.reply("404 Not Found", "", "no such file");
        connection.file(request, at->second.content);
    }

    int listener_ = -1, port_ = 0;
    std::map<std::string, File> files_;
    mutable std::mutex mutex_;
    std::vector<Request> requests_;
    std::atomic<bool> ending_ = false;
    std::vector<std::thread> threads_;
    std::thread acceptor_;
};

}  // namespace internvl
