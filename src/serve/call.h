#pragma once
#include <functional>
#include <memory>
#include <mutex>
#include <optional>
#include <string>

#include "serve/http.h"

namespace internvl {

struct ApiKey;

// What the access log and the metrics say of a request; never what it says or shows.
struct CallRecord {
    std::string endpoint = "other";  // the route, not the path
    std::string model = {}, code = {}, finish = "none", media = "none";
    std::string rejected = {};  // why, as internvl_requests_rejected_total counts it
    int status = 0;
    int64_t prompt_tokens = 0, image_tokens = 0, completion_tokens = 0, cached_tokens = 0;
    int64_t tiles = 0, bytes_in = 0, bytes_out = 0;
    double queue = 0, fetch = 0, decode = 0, resize = 0, vision = 0, prefill = 0,
           decode_tokens = 0;                // seconds
    std::optional<double> first_token = {};  // seconds
};

// A request and the way back to its client. A handler answers with respond(), or with start(),
// write() and finish(); any thread may do so. What is written waits here until the connection takes
// it. Nothing here knows of sockets.
class Call : public std::enable_shared_from_this<Call> {
  public:
    // Bytes that a client who does not read may leave here.
    static constexpr size_t max_waiting = 1 << 20;

    RequestHead head;
    std::string body;
    std::shared_ptr<void> body_share;           // of what all bodies may take; goes with the body
    std::string id;                             // x-request-id
    std::shared_ptr<const ApiKey> key;          // null: none is asked for
    size_t key_count = 0;                       // of all keys
    Clock::time_point received = Clock::now();  // of the last byte of the body
    CallRecord record;                          // of the handler's until it has finished
    Headers extra;                              // further headers of the answer
    int route = -1;                             // the router's: which of its table,
    std::string client;                         // whom limits count it for,
    bool entered = false;                       // whether they count it now,
    bool taken_up = false;                      // and whether it was handed to the service

    void respond(HttpResponse);
    // An answer in pieces: only the head of the response counts.
    void start(HttpResponse head);
    void write(std::string bytes);  // dropped when the client is gone
    void finish();

    // Heard once, when the client goes away before the answer is finished, on the network's thread;
    // at once when it is gone already.
    void on_gone(std::function<void()>);
    bool gone() const;
    // Heard once, when the answer has left or can leave no more.
    std::function<void(Call&)> on_done;

    // For the connection.
    struct Output {
        std::optional<HttpResponse> head;  // the first time
        bool streamed = false;             // pieces follow the head
        std::string bytes;
        bool finished = false, overrun = false;
    };
    Output take();
    void set_wake(std::function<void()>);  // heard when there is something to take
    void leave();                          // the client is gone
    void done();                           // nothing more can leave

  private:
    void wake_unlocked(std::unique_lock<std::mutex>&);

    mutable std::mutex mutex_;
    std::optional<HttpResponse> response_;
    std::string waiting_;
    std::function<void()> wake_, gone_heard_;
    bool streamed_ = false, finished_ = false, overrun_ = false, gone_ = false, done_ = false;
};

}  // namespace internvl
