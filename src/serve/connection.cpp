#include "serve/connection.h"

#include <fmt/format.h>

#include <array>
#include <boost/asio/post.hpp>
#include <boost/asio/redirect_error.hpp>
#include <boost/asio/use_awaitable.hpp>
#include <boost/beast/http/parser.hpp>
#include <boost/beast/http/read.hpp>
#include <boost/beast/http/string_body.hpp>
#include <ctime>
#include <utility>

namespace internvl {

namespace http = boost::beast::http;
using boost::system::error_code;

static auto into(error_code& error) {
    return asio::redirect_error(asio::use_awaitable, error);
}

// What was read is no HTTP; otherwise it is the socket that failed.
static bool is_malformed(const error_code& error) {
    return error && error != http::error::partial_message &&
           error.category() == make_error_code(http::error::bad_method).category();
}

struct Connection::Incoming {
    http::request_parser<http::string_body> parser;
    std::shared_ptr<Call> call = std::make_shared<Call>();
};

Connection::Connection(Socket socket, ConnectionHub& hub, std::string peer, int door)
    : socket_(std::move(socket)),
      hub_(hub),
      peer_(std::move(peer)),
      door_(door),
      deadline_(socket_.get_executor()),
      wake_(socket_.get_executor()) {
    ++hub_.open;
    error_code ignored;
    socket_.non_blocking(true, ignored);
}

Connection::~Connection() {
    set_idle(false);
    --hub_.open;
}

void Connection::close() {
    closed_ = true;
    error_code ignored;
    socket_.close(ignored);
    deadline_.cancel();
    wake_.cancel();
}

void Connection::set_idle(bool idle) {
    if (idle == is_idle_) return;
    is_idle_ = idle;
    if (idle)
        place_ = hub_.idle.insert(hub_.idle.end(), this);
    else
        hub_.idle.erase(place_);
}

// Whatever goes on now ends with the connection when it takes longer.
void Connection::limit_time(Timeout time) {
    deadline_.expires_after(time);
    deadline_.async_wait([self = weak_from_this(), mine = ++epoch_](error_code error) {
        const auto connection = self.lock();
        if (!error && connection && connection->epoch_ == mine) connection->close();
    });
}

asio::awaitable<void> Connection::serve() {
    const auto self = shared_from_this();
    while (keep_ && !closed_) {
        Incoming in;
        const Got got = co_await read_request(in);
        if (got == Got::nothing) break;
        if (got == Got::request) co_await answer(in.call);
    }
    close();
}

asio::awaitable<Connection::Got> Connection::read_request(Incoming& in) {
    Call& call = *in.call;
    call.head.peer = peer_;
    call.head.door = door_;
    if (!co_await read_head(in)) co_return Got::nothing;
    hub_.handler.begin(call);
    std::optional<HttpResponse> early = hub_.handler.admit(call);
    if (!early && call.head.content_length > int64_t(hub_.limits.body_bytes))
        early = hub_.handler.refuse(call, "payload_too_large",
                                    fmt::format("The body has {} bytes; at most {} are accepted.",
                                                call.head.content_length, hub_.limits.body_bytes));
    if (early) {
        co_await refuse(call, *early);
        co_return Got::answered;
    }
    if (call.head.has_body && !co_await read_body(in)) {
        call.leave();
        call.done();  // if it was not refused
        co_return Got::nothing;
    }
    call.received = Clock::now();
    call.record.bytes_in = int64_t(call.body.size());
    co_return Got::request;
}

// The head of a request, from a connection that may rest before it.
asio::awaitable<bool> Connection::read_head(Incoming& in) {
    error_code error;
    set_idle(true);
    if (buffer_.size() == 0) {
        limit_time(std::exchange(first_, false) ? hub_.limits.header_time : hub_.limits.idle_time);
        co_await socket_.async_wait(Socket::wait_read, into(error));
        if (error || closed_) co_return false;
    }
    limit_time(hub_.limits.header_time);
    in.parser.header_limit(uint32_t(hub_.limits.header_bytes));
    in.parser.body_limit(boost::none);
    co_await http::async_read_header(socket_, buffer_, in.parser, into(error));
    no_limit();
    set_idle(false);
    in.call->received = Clock::now();
    if (closed_ || error == http::error::end_of_stream || error == http::error::partial_message)
        co_return false;
    Call& call = *in.call;
    if (error) {
        if (!is_malformed(error)) co_return false;
        HttpResponse response;
        if (error == http::error::header_limit)
            response = hub_.handler.refuse(
                call, "header_too_large",
                fmt::format("The headers take more than {} bytes.", hub_.limits.header_bytes));
        else
            response = hub_.handler.refuse(call, "invalid_http",
                                           "The request is not well-formed HTTP/1.1.");
        co_await refuse(call, response);
        co_return false;
    }
    const auto& message = in.parser.get();
    RequestHead& head = call.head;
    head.method = message.method_string();
    head.target = message.target();
    head.http_1_0 = message.version() < 11;
    for (const auto& field : message) head.headers.emplace_back(field.name_string(), field.value());
    if (const auto length = in.parser.content_length()) head.content_length = int64_t(*length);
    head.has_body = head.content_length > 0 || in.parser.chunked();
    keep_ = in.parser.keep_alive();
    if (message.count(http::field::host) != 1 &&
        (message.count(http::field::host) || !head.http_1_0)) {
        HttpResponse response =
            hub_.handler.refuse(call, "invalid_http", "The request must have one Host header.");
        co_await refuse(call, response);
        co_return false;
    }
    co_return true;
}

// Of what all bodies together may take.
bool Connection::take_share(Call& call, size_t more) {
    if (hub_.body_bytes->load() + more > hub_.limits.all_bodies) return false;
    struct Share {
        std::shared_ptr<std::atomic<size_t>> all;
        size_t bytes = 0;
        ~Share() { *all -= bytes; }
    };
    if (!call.body_share) {
        auto share = std::make_shared<Share>();
        share->all = hub_.body_bytes;
        call.body_share = share;
    }
    static_cast<Share*>(call.body_share.get())->bytes += more;
    *hub_.body_bytes += more;
    return true;
}

// What goes wrong while a body arrives, null when the client is merely gone.
std::optional<HttpResponse> Connection::body_error(Call& call, size_t size, bool malformed) {
    if (size > hub_.limits.body_bytes)
        return hub_.handler.refuse(
            call, "payload_too_large",
            fmt::format("The body has more than {} bytes.", hub_.limits.body_bytes));
    if (malformed)
        return hub_.handler.refuse(call, "invalid_http", "The body is not well-formed HTTP/1.1.");
    return std::nullopt;
}

asio::awaitable<bool> Connection::read_body(Incoming& in) {
    Call& call = *in.call;
    const int64_t told = call.head.content_length;
    bool room = told <= 0 || take_share(call, size_t(told));
    if (room && equal_ignoring_case(call.head.header("expect"), "100-continue") &&
        buffer_.size() == 0) {
        const std::string go_on = "HTTP/1.1 100 Continue\r\n\r\n";
        if (!co_await send(go_on)) co_return false;
    }
    error_code error;
    size_t shared = told > 0 ? size_t(told) : 0;
    while (room && !in.parser.is_done()) {
        limit_time(hub_.limits.body_idle);
        co_await http::async_read_some(socket_, buffer_, in.parser, into(error));
        no_limit();
        const size_t size = in.parser.get().body().size();
        if (error || closed_ || size > hub_.limits.body_bytes) {
            auto response = body_error(call, size, is_malformed(error));
            if (response) co_await refuse(call, *response);
            co_return false;
        }
        if (size > shared) {
            room = take_share(call, size - shared);
            shared = size;
        }
    }
    if (room) {
        call.body = std::move(in.parser.get().body());
        co_return true;
    }
    HttpResponse busy =
        hub_.handler.refuse(call, "queue_full", "Too many request bodies are being received.");
    co_await refuse(call, busy);
    co_return false;
}

// An answer to a request whose body was not read.
asio::awaitable<void> Connection::refuse(Call& call, HttpResponse& response) {
    if (!call.on_done) hub_.handler.begin(call);
    response.close |= call.head.has_body || call.head.method.empty();
    const bool without_body = call.head.method == "HEAD";
    call.record.status = response.status;
    std::string text = head_text(call, response, false);
    if (!without_body) text += response.body;
    if (response.close) keep_ = false;
    call.record.bytes_out = int64_t(text.size());
    const bool sent = co_await send(text);
    call.done();
    if (sent && !keep_) co_await linger();
}

// A client that still sends must not lose our answer to a reset.
asio::awaitable<void> Connection::linger() {
    error_code error;
    socket_.shutdown(Socket::shutdown_send, error);
    limit_time(Timeout(1000));
    std::array<char, 16384> dropped;
    for (size_t total = 0; !error && !closed_ && total < (size_t(8) << 20);)
        total += co_await socket_.async_read_some(asio::buffer(dropped), into(error));
    no_limit();
}

// All of it, as long as the client takes some of it now and then.
asio::awaitable<bool> Connection::send(const std::string& bytes) {
    for (size_t at = 0; at < bytes.size();) {
        error_code error;
        limit_time(hub_.limits.write_timeout);
        at += co_await socket_.async_write_some(asio::buffer(bytes.data() + at, bytes.size() - at),
                                                into(error));
        no_limit();
        if (error || closed_) co_return false;
    }
    co_return true;
}

// Notices that the client goes away while it is answered; what it says meanwhile is kept for later.
void Connection::watch(std::shared_ptr<Call> call) {
    socket_.async_wait(Socket::wait_read, [self = shared_from_this(), call](error_code error) {
        if (error || self->current_ != call.get() || self->closed_) return;
        constexpr size_t most = 64 << 10;
        const auto room = self->buffer_.prepare(4096);
        const size_t n = self->socket_.read_some(room, error);
        if (!error) self->buffer_.commit(n);
        if (error && error != asio::error::would_block) {
            call->leave();
            self->wake_.cancel();
        } else if (self->buffer_.size() < most) {
            self->watch(call);
        }
    });
}

static std::string chunk(std::string_view bytes) {
    return fmt::format("{:x}\r\n{}\r\n", bytes.size(), bytes);
}

asio::awaitable<void> Connection::answer(const std::shared_ptr<Call>& call) {
    current_ = call.get();
    call->set_wake([self = weak_from_this(), executor = socket_.get_executor()] {
        asio::post(executor, [self] {
            if (const auto connection = self.lock()) connection->wake_.cancel();
        });
    });
    hub_.handler.handle(call);
    watch(call);
    const bool chunked = !call->head.http_1_0;
    bool streamed = false, events = false, open = true;
    int64_t sent = 0;
    for (;;) {
        Call::Output out = call->take();
        std::string bytes;
        if (out.head && open) {
            streamed = out.streamed;
            events = streamed && out.head->type.starts_with("text/event-stream");
            if (out.head->close || (streamed && !chunked)) keep_ = false;
            bytes = head_text(*call, *out.head, streamed);
            if (!streamed && call->head.method != "HEAD") bytes += out.head->body;
        }
        if (!out.bytes.empty()) bytes += chunked ? chunk(out.bytes) : out.bytes;
        if (out.finished && streamed && chunked) bytes += "0\r\n\r\n";
        if (call->gone() || out.overrun) open = false;
        const bool something = open && !bytes.empty();
        if (something) {
            sent += int64_t(bytes.size());
            open = co_await send(bytes);
        }
        if (!open) {  // the handler hears of it and finishes soon
            call->leave();
            close();
        }
        if (out.finished) break;
        if (something) continue;  // whoever woke us meanwhile was not heard
        error_code error;
        wake_.expires_after(events ? hub_.limits.keep_alive : Timeout(std::chrono::hours(24)));
        co_await wake_.async_wait(into(error));
        if (!error && events && open) {
            std::string comment = ": keep-alive\n\n";
            if (chunked) comment = chunk(comment);
            open = co_await send(comment);
        }
    }
    current_ = nullptr;
    call->record.bytes_out = sent;
    if (open && !closed_) socket_.cancel();  // the watch
    call->done();
    if (open && !keep_) co_await linger();
}

static std::string http_date() {
    const std::time_t now = std::time(nullptr);
    std::tm parts{};
    gmtime_r(&now, &parts);
    char text[40];
    return std::string(text, std::strftime(text, sizeof text, "%a, %d %b %Y %H:%M:%S GMT", &parts));
}

std::string Connection::head_text(const Call& call, const HttpResponse& r, bool streamed) {
    std::string text = fmt::format("HTTP/1.1 {} {}\r\nDate: {}\r\nServer: internvl\r\n", r.status,
                                   reason_phrase(r.status), http_date());
    const auto line = [&](std::string_view name, std::string_view value) {
        text += fmt::format("{}: {}\r\n", name, value);
    };
    if (!r.type.empty() && r.status != 204) line("Content-Type", r.type);
    if (!streamed && r.status != 204) line("Content-Length", std::to_string(r.body.size()));
    if (streamed && !call.head.http_1_0) line("Transfer-Encoding", "chunked");
    if (!keep_ || r.close) line("Connection", "close");
    if (keep_ && !r.close && call.head.http_1_0) line("Connection", "keep-alive");
    line("x-request-id", call.id);
    line("X-Content-Type-Options", "nosniff");
    line("Referrer-Policy", "no-referrer");
    bool caching = false;
    for (const Headers* headers : {&r.headers, &call.extra})
        for (const auto& [name, value] : *headers) {
            caching |= name == "Cache-Control";
            line(name, value);
        }
    if (!caching) line("Cache-Control", "no-store");
    return text + "\r\n";
}

}  // namespace internvl
