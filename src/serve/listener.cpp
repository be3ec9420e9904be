#include "serve/listener.h"

#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <boost/asio/co_spawn.hpp>
#include <boost/asio/detached.hpp>
#include <boost/asio/ip/tcp.hpp>
#include <boost/asio/local/stream_protocol.hpp>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/signal_set.hpp>
#include <boost/asio/use_awaitable.hpp>

#include "serve/connection.h"

namespace internvl {

using boost::system::error_code;

struct HttpServer::Core {
    ConnectionHub hub;  // outlives the connections, which end with `io`
    asio::io_context io{1};
    asio::executor_work_guard<asio::io_context::executor_type> work{io.get_executor()};
    asio::signal_set signals{io};
    std::vector<std::string> sockets;  // paths to remove at the end

    void make_room();
    void welcome(Socket, std::string peer, int door);
    template <class Acceptor>
    asio::awaitable<void> accept(Acceptor, int door);
    void next_signal(std::function<void(int)>);
};

// A client that asks must find a place, however many hold one without asking.
void HttpServer::Core::make_room() {
    if (hub.open < hub.limits.connections || hub.idle.empty()) return;
    Connection* const oldest = hub.idle.front();
    hub.idle.splice(hub.idle.end(), hub.idle, hub.idle.begin());
    oldest->close();
}

void HttpServer::Core::welcome(Socket socket, std::string peer, int door) {
    make_room();
    // Those that were closed leave their places soon; beyond that there is no room.
    if (hub.open >= hub.limits.connections + 64) return;
    const auto connection =
        std::make_shared<Connection>(std::move(socket), hub, std::move(peer), door);
    asio::co_spawn(io, connection->serve(), asio::detached);
}

static std::string address_of(const asio::ip::tcp::endpoint& e) {
    return e.address().to_string();
}
static std::string address_of(const asio::local::stream_protocol::endpoint&) {
    return "";
}

static void send_at_once(asio::ip::tcp::socket& socket) {
    error_code ignored;
    socket.set_option(asio::ip::tcp::no_delay(true), ignored);
}
static void send_at_once(asio::local::stream_protocol::socket&) {}

template <class Acceptor>
asio::awaitable<void> HttpServer::Core::accept(Acceptor acceptor, int door) {
    for (;;) {
        error_code error;
        typename Acceptor::protocol_type::endpoint peer;
        auto socket =
            co_await acceptor.async_accept(peer, asio::redirect_error(asio::use_awaitable, error));
        if (error == asio::error::operation_aborted) co_return;
        if (error) {  // out of file descriptors, most likely
            asio::steady_timer pause(io, std::chrono::milliseconds(100));
            make_room();
            co_await pause.async_wait(asio::redirect_error(asio::use_awaitable, error));
            continue;
        }
        send_at_once(socket);
        welcome(std::move(socket), address_of(peer), door);
    }
}

HttpServer::HttpServer(const HttpLimits& limits, HttpHandler handler)
    : core_(std::make_unique<Core>()) {
    core_->hub.limits = limits;
    core_->hub.handler = std::move(handler);
    rlimit files{};  // a descriptor for each connection, and some
    if (::getrlimit(RLIMIT_NOFILE, &files) == 0 && files.rlim_cur < files.rlim_max) {
        files.rlim_cur = files.rlim_max;
        ::setrlimit(RLIMIT_NOFILE, &files);
    }
}

HttpServer::~HttpServer() {
    for (const std::string& path : core_->sockets) ::unlink(path.c_str());
}

int HttpServer::listen(const std::string& host, int port, int door) {
    using asio::ip::tcp;
    error_code error;
    const auto address = asio::ip::make_address(host == "localhost" ? "127.0.0.1" : host, error);
    if (error) throw UsageError("the address to listen on is malformed", "an IP address", host);
    tcp::acceptor acceptor(core_->io);
    const tcp::endpoint endpoint(address, uint16_t(port));
    acceptor.open(endpoint.protocol(), error);
    if (!error) acceptor.set_option(tcp::acceptor::reuse_address(true), error);
    if (!error) acceptor.bind(endpoint, error);
    if (!error) acceptor.listen(4096, error);
    if (error)
        throw ListenError("cannot listen", "a free address", error.message(),
                          host + ":" + std::to_string(port));
    const int found = acceptor.local_endpoint().port();
    asio::co_spawn(core_->io, core_->accept(std::move(acceptor), door), asio::detached);
    return found;
}

// A socket file that nobody answers on any more is in the way of the next start.
static void remove_stale(const std::string& path) {
    struct stat info {};
    if (::stat(path.c_str(), &info) != 0 || !S_ISSOCK(info.st_mode)) return;
    asio::io_context io;
    asio::local::stream_protocol::socket probe(io);
    error_code error;
    probe.connect(asio::local::stream_protocol::endpoint(path), error);
    if (error) ::unlink(path.c_str());
}

void HttpServer::listen_unix(const std::string& path, int door) {
    using asio::local::stream_protocol;
    if (path.empty() || path.size() >= sizeof(sockaddr_un::sun_path))
        throw UsageError("the path of the unix socket has the wrong length", "1 to 107 bytes",
                         std::to_string(path.size()));
    remove_stale(path);
    error_code error;
    stream_protocol::acceptor acceptor(core_->io);
    const stream_protocol::endpoint endpoint(path);
    acceptor.open(endpoint.protocol(), error);
    if (!error) acceptor.bind(endpoint, error);
    if (!error) acceptor.listen(4096, error);
    if (error) throw ListenError("cannot listen", "a free path", error.message(), path);
    core_->sockets.push_back(path);
    asio::co_spawn(core_->io, core_->accept(std::move(acceptor), door), asio::detached);
}

void HttpServer::run() {
    core_->io.run();
}
void HttpServer::stop() {
    core_->io.stop();
}
void HttpServer::post(std::function<void()> work) {
    asio::post(core_->io, std::move(work));
}
int HttpServer::connections() const {
    return core_->hub.open;
}

void HttpServer::after(std::chrono::milliseconds time, std::function<void()> work) {
    auto timer = std::make_shared<asio::steady_timer>(core_->io, time);
    timer->async_wait([timer, work = std::move(work)](error_code error) {
        if (!error) work();
    });
}

void HttpServer::Core::next_signal(std::function<void(int)> heard) {
    signals.async_wait([this, heard](error_code error, int signal) {
        if (error) return;
        heard(signal);
        next_signal(heard);
    });
}

void HttpServer::on_signal(std::function<void(int)> heard) {
    for (const int signal : {SIGTERM, SIGINT, SIGHUP}) core_->signals.add(signal);
    core_->next_signal(std::move(heard));
}

}  // namespace internvl
