#pragma once
// What the two files that know Asio share.

#include <boost/asio/awaitable.hpp>
#include <boost/asio/generic/stream_protocol.hpp>
#include <boost/asio/io_context.hpp>
#include <boost/asio/steady_timer.hpp>
#include <boost/beast/core/flat_buffer.hpp>
#include <list>
#include <memory>

#include "serve/listener.h"

namespace internvl {

namespace asio = boost::asio;
using Socket = asio::generic::stream_protocol::socket;

class Connection;

// What all connections share; touched on the network's thread only.
struct ConnectionHub {
    HttpLimits limits;
    HttpHandler handler;
    std::list<Connection*> idle;  // without a request, the longest so in front
    int open = 0;
    std::shared_ptr<std::atomic<size_t>> body_bytes = std::make_shared<std::atomic<size_t>>(0);
};

// One client: requests one after the other, each answered before the next is looked at.
class Connection : public std::enable_shared_from_this<Connection> {
  public:
    Connection(Socket, ConnectionHub&, std::string peer, int door);
    ~Connection();

    asio::awaitable<void> serve();
    void close();

  private:
    // Arguments of coroutines are references to what their caller keeps: gcc 12 destroys
    // temporaries of a co_await twice.
    struct Incoming;
    using Timeout = std::chrono::milliseconds;

    asio::awaitable<bool> read_head(Incoming&);
    asio::awaitable<bool> read_body(Incoming&);
    // What came of the wait for a request: one to answer, one that is answered already, or none.
    enum class Got { request, answered, nothing };
    asio::awaitable<Got> read_request(Incoming&);
    asio::awaitable<void> answer(const std::shared_ptr<Call>&);
    asio::awaitable<bool> send(const std::string& bytes);
    asio::awaitable<void> refuse(Call&, HttpResponse&);
    std::optional<HttpResponse> body_error(Call&, size_t size, bool malformed);
    asio::awaitable<void> linger();
    std::string head_text(const Call&, const HttpResponse&, bool streamed);
    bool take_share(Call&, size_t more);
    void limit_time(Timeout);
    void no_limit() { ++epoch_; }
    void set_idle(bool);
    void watch(std::shared_ptr<Call>);

    Socket socket_;
    ConnectionHub& hub_;
    std::string peer_;
    int door_;
    boost::beast::flat_buffer buffer_;
    asio::steady_timer deadline_, wake_;
    uint64_t epoch_ = 0;  // of the time limit
    bool is_idle_ = false, first_ = true, keep_ = true, closed_ = false;
    std::list<Connection*>::iterator place_;
    Call* current_ = nullptr;  // being answered
};

}  // namespace internvl
