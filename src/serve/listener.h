#pragma once
#include <atomic>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "base/error.h"
#include "serve/call.h"

namespace internvl {

struct HttpLimits {
    size_t header_bytes = 32 << 10;
    size_t body_bytes = size_t(128) << 20;
    size_t all_bodies = size_t(1) << 30;
    int connections = 1024;
    std::chrono::milliseconds header_time{10000};  // also of the first byte
    std::chrono::milliseconds idle_time{75000};    // between two requests
    std::chrono::milliseconds body_idle{30000};
    std::chrono::milliseconds write_timeout{30000};  // without progress
    std::chrono::milliseconds keep_alive{15000};     // silence in an event stream
};

// Who answers. All is called on the network's thread and must not block.
struct HttpHandler {
    std::function<void(Call&)> begin;  // a request appears: its id, and who hears of its end
    // The head is there: an answer now ends the request before its body is read.
    std::function<std::optional<HttpResponse>(Call&)> admit;
    std::function<void(std::shared_ptr<Call>)> handle;  // the body is there
    // What is said when HTTP itself is at fault.
    std::function<HttpResponse(Call&, const char* code, const std::string& message)> refuse;
};

// The address is taken, or not ours.
struct ListenError : Error {
    using Error::Error;
};

// HTTP/1.1 on TCP and unix sockets: one thread that moves bytes.
class HttpServer {
  public:
    HttpServer(const HttpLimits&, HttpHandler);
    ~HttpServer();

    // Which door a request came through is in RequestHead::door. Throws UsageError, ListenError.
    int listen(const std::string& host, int port, int door);  // -> the port
    void listen_unix(const std::string& path, int door);

    void run();                                                    // until stop()
    void stop();                                                   // from any thread
    void post(std::function<void()>);                              // to the network's thread
    void after(std::chrono::milliseconds, std::function<void()>);  // on it, once
    void on_signal(std::function<void(int signal)>);               // SIGTERM, SIGINT, SIGHUP
    int connections() const;                                       // on the network's thread

  private:
    struct Core;
    std::unique_ptr<Core> core_;
};

}  // namespace internvl
