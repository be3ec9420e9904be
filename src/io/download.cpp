#include "io/download.h"

#include <curl/curl.h>
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <new>
#include <random>
#include <string_view>
#include <thread>

#include "io/partial_file.h"
#include "io/repository.h"

namespace internvl {

namespace {

// Trying again may help, after a while.
struct Passing : Error {
    using Error::Error;
    long wait = 0;  // seconds that the server asks for
};

// What stands before the body.
struct Answer {
    long status = 0;
    int64_t length = -1;                        // as announced; -1 = not
    int64_t first = -1, last = -1, total = -1;  // of a range
    long retry_after = 0;
    std::string redirect, code;

    bool good() const { return status == 200 || status == 206; }
};

// Where a good answer goes. Both may throw.
struct Sink {
    std::function<void(const Answer&)> begin;
    std::function<void(const char*, size_t)> data;
};

using Clock = std::chrono::steady_clock;

// One request under way.
struct Exchange {
    CURL* handle;
    const DownloadOptions& options;
    const Sink& sink;
    curl_off_t moved = 0;
    Clock::time_point last_moved = Clock::now();
    bool silent = false;  // for too long
    Answer answer;        // once the body begins
    size_t ignored = 0;
    std::exception_ptr thrown;

    Exchange(CURL* h, const DownloadOptions& o, const Sink& s) : handle(h), options(o), sink(s) {}
};

std::string header(CURL* handle, const char* name) {
    curl_header* found = nullptr;
    return curl_easy_header(handle, name, 0, CURLH_HEADER, -1, &found) == CURLHE_OK ? found->value
                                                                                    : "";
}

// Content-Range: bytes FIRST-LAST/TOTAL; what is not so stays -1.
void read_range(std::string_view text, Answer& answer) {
    int64_t first = 0, last = 0, total = 0;
    const auto number = [&](int64_t& value, char end) {
        const auto [stop, error] = std::from_chars(text.data(), text.data() + text.size(), value);
        text.remove_prefix(size_t(stop - text.data()));
        const bool fine = error == std::errc() && (text.empty() ? end == 0 : text.front() == end);
        if (!text.empty()) text.remove_prefix(1);
        return fine;
    };
    if (!text.starts_with("bytes ")) return;
    text.remove_prefix(6);
    if (number(first, '-') && number(last, '/') && number(total, 0)) {
        answer.first = first;
        answer.last = last;
        answer.total = total;
    }
}

Answer read_answer(CURL* handle) {
    Answer answer;
    curl_off_t length = -1, wait = 0;
    char* redirect = nullptr;
    curl_easy_getinfo(handle, CURLINFO_RESPONSE_CODE, &answer.status);
    curl_easy_getinfo(handle, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &length);
    curl_easy_getinfo(handle, CURLINFO_RETRY_AFTER, &wait);
    curl_easy_getinfo(handle, CURLINFO_REDIRECT_URL, &redirect);
    answer.length = length;
    answer.retry_after = long(std::clamp<curl_off_t>(wait, 0, 300));
    if (redirect) answer.redirect = redirect;
    answer.code = header(handle, "X-Error-Code");
    read_range(header(handle, "Content-Range"), answer);
    return answer;
}

size_t on_body(char* data, size_t, size_t bytes, void* argument) {
    Exchange& exchange = *static_cast<Exchange*>(argument);
    constexpr size_t patience = 64 << 10;  // for the page that comes with an error
    try {
        if (!exchange.answer.status) {
            exchange.answer = read_answer(exchange.handle);
            if (exchange.answer.good()) exchange.sink.begin(exchange.answer);
        }
        if (!exchange.answer.good()) return (exchange.ignored += bytes) > patience ? 0 : bytes;
        exchange.sink.data(data, bytes);
        return bytes;
    } catch (...) {
        exchange.thrown = std::current_exception();
        return 0;  // ends the transfer
    }
}

// Called with every piece, and once a second without. Not left to curl's own measure of speed, an
// average that takes seconds to notice.
int on_progress(void* argument, curl_off_t, curl_off_t down, curl_off_t, curl_off_t) {
    Exchange& exchange = *static_cast<Exchange*>(argument);
    const auto now = Clock::now();
    if (down != exchange.moved) exchange.last_moved = now;
    exchange.moved = down;
    exchange.silent = now - exchange.last_moved >= std::chrono::seconds(exchange.options.timeout);
    return exchange.silent || exchange.options.stop() ? 1 : 0;
}

bool may_pass(CURLcode code) {
    constexpr CURLcode passing[] = {CURLE_COULDNT_RESOLVE_HOST, CURLE_COULDNT_RESOLVE_PROXY,
                                    CURLE_COULDNT_CONNECT,      CURLE_OPERATION_TIMEDOUT,
                                    CURLE_PARTIAL_FILE,         CURLE_SEND_ERROR,
                                    CURLE_RECV_ERROR,           CURLE_GOT_NOTHING,
                                    CURLE_SSL_CONNECT_ERROR,    CURLE_HTTP2,
                                    CURLE_HTTP2_STREAM};
    return std::ranges::find(passing, code) != std::end(passing);
}

std::string url_part(const std::string& url, CURLUPart part) {
    const std::unique_ptr<CURLU, decltype(&curl_url_cleanup)> parsed(curl_url(), curl_url_cleanup);
    char* text = nullptr;
    if (curl_url_set(parsed.get(), CURLUPART_URL, url.c_str(), CURLU_NON_SUPPORT_SCHEME) ||
        curl_url_get(parsed.get(), part, &text, CURLU_DEFAULT_PORT))
        return {};
    std::string copy = text;
    curl_free(text);
    return copy;
}

bool same_host(const std::string& a, const std::string& b) {
    return std::ranges::all_of(
        std::initializer_list<CURLUPart>{CURLUPART_SCHEME, CURLUPART_HOST, CURLUPART_PORT},
        [&](CURLUPart part) { return url_part(a, part) == url_part(b, part); });
}

[[noreturn]] void refuse(const Answer& answer, const std::string& url) {
    const std::string status = fmt::format("HTTP status {}", answer.status);
    if (answer.status == 408 || answer.status == 429 || answer.status >= 500) {
        Passing passing("the server cannot answer now", "", status, url);
        passing.wait = answer.retry_after;
        throw passing;
    }
    if (answer.status == 416)  // what we have is more than there is
        throw Damaged("the server does not have the rest of the file", "", status, url);
    throw HttpError(answer.status, answer.code, url);
}

}  // namespace

void check_redirect(const std::string& from, const std::string& to) {
    const std::string before = url_part(from, CURLUPART_SCHEME),
                      after = url_part(to, CURLUPART_SCHEME);
    if (after != "https" && (after != "http" || before == "https"))
        throw Error("the server redirects to where we do not follow", before + "://...",
                    after + "://...", from);
}

HttpError::HttpError(long status_, const std::string& code_, const std::string& url)
    : Error("the server refuses", "", fmt::format("HTTP status {}", status_), url),
      status(status_),
      code(code_) {}

struct Downloader::Connection {
    DownloadOptions options;
    CURL* handle = nullptr;

    explicit Connection(DownloadOptions);
    ~Connection() { curl_easy_cleanup(handle); }
    void check_stop() const {
        if (options.stop()) throw Error("stopped");
    }
    Answer ask(const std::string& url, const std::string& token, int64_t from, const Sink&);
    void get(const std::string& url, int64_t from, const Sink&);
    void persist(const std::function<void()>& attempt, const std::function<int64_t()>& have);
    void pause(int failures, const Passing& reason);
    void complete(const RemoteFile&, PartialFile&, const std::function<void(int64_t)>& moved);
};

Downloader::Connection::Connection(DownloadOptions o) : options(std::move(o)) {
    static const CURLcode ready = curl_global_init(CURL_GLOBAL_DEFAULT);
    if (ready == CURLE_OK) handle = curl_easy_init();
    if (!handle) throw std::bad_alloc();
}

// One request, and its answer.
Answer Downloader::Connection::ask(const std::string& url, const std::string& token, int64_t from,
                                   const Sink& sink) {
    char detail[CURL_ERROR_SIZE] = "";
    Exchange exchange(handle, options, sink);
    curl_easy_reset(handle);
    const auto set = [&](CURLoption option, auto value) {
        if (curl_easy_setopt(handle, option, value) == CURLE_OUT_OF_MEMORY) throw std::bad_alloc();
    };
    set(CURLOPT_URL, url.c_str());
    set(CURLOPT_PROTOCOLS_STR, "http,https");
    set(CURLOPT_USERAGENT, "internvl");
    set(CURLOPT_NOSIGNAL, 1L);
    set(CURLOPT_BUFFERSIZE, 256L << 10);
    set(CURLOPT_ERRORBUFFER, detail);
    set(CURLOPT_CONNECTTIMEOUT, long(options.timeout));
    set(CURLOPT_LOW_SPEED_TIME, long(options.timeout));
    set(CURLOPT_LOW_SPEED_LIMIT, 128L);  // what trickles below is as good as silent
    set(CURLOPT_WRITEFUNCTION, on_body);
    set(CURLOPT_WRITEDATA, &exchange);
    set(CURLOPT_NOPROGRESS, 0L);
    set(CURLOPT_XFERINFOFUNCTION, on_progress);
    set(CURLOPT_XFERINFODATA, &exchange);
    if (const char* bundle = std::getenv("SSL_CERT_FILE")) set(CURLOPT_CAINFO, bundle);
    if (!token.empty()) {
        set(CURLOPT_HTTPAUTH, long(CURLAUTH_BEARER));
        set(CURLOPT_XOAUTH2_BEARER, token.c_str());
    }
    // No If-Range: the servers behind the redirect know the file by another ETag than the hub. The
    // answer's Content-Range and, in the end, the digest are checked instead.
    if (from > 0) set(CURLOPT_RANGE, (std::to_string(from) + "-").c_str());
    const CURLcode code = curl_easy_perform(handle);
    if (exchange.thrown) std::rethrow_exception(exchange.thrown);
    check_stop();
    if (exchange.silent)
        throw Passing("the server fell silent", fmt::format("data within {} s", options.timeout),
                      "", url);
    const Answer answer = read_answer(handle);
    if (code != CURLE_OK && (answer.status == 0 || answer.good())) {
        const std::string text = printable(*detail ? detail : curl_easy_strerror(code));
        if (may_pass(code)) throw Passing("the download broke off: " + text, "", "", url);
        throw Error("cannot download: " + text, "", "", url);
    }
    if (answer.good() && !exchange.answer.status) sink.begin(answer);  // an empty body
    return answer;
}

// A request, sent on as the server says. We follow ourselves, so that it is us who decide where to
// and what the next host hears.
void Downloader::Connection::get(const std::string& url, int64_t from, const Sink& sink) {
    constexpr int most_redirects = 10;
    std::string at = url, token = options.token;
    for (int hop = 0; hop <= most_redirects; ++hop) {
        const Answer answer = ask(at, token, from, sink);
        if (answer.good()) return;
        if (answer.redirect.empty()) refuse(answer, url);
        check_redirect(at, answer.redirect);
        if (!same_host(at, answer.redirect)) token.clear();
        at = answer.redirect;
    }
    throw Error("the server sends us on without end",
                fmt::format("at most {} redirects", most_redirects), "", url);
}

// Longer from try to try, and by chance, so that many who lost the same server do not come back
// together.
void Downloader::Connection::pause(int failures, const Passing& reason) {
    std::random_device chance;
    const double longest = std::min(0.25 * double(1 << std::min(failures, 8)), 30.0);
    const double seconds =
        std::max(double(reason.wait), longest * (0.5 + 0.5 * double(chance() % 1000) / 1000));
    options.notice(fmt::format("{}; trying again in {:.1f} s", reason.what(), seconds));
    const auto end = Clock::now() + std::chrono::duration<double>(seconds);
    while (Clock::now() < end) {
        check_stop();
        std::this_thread::sleep_for(std::chrono::milliseconds(20));
    }
}

// Again and again, until `retries` attempts in a row have got hardly anything.
void Downloader::Connection::persist(const std::function<void()>& attempt,
                                     const std::function<int64_t()>& have) {
    constexpr int64_t progress = 1 << 20;
    int64_t before = have();
    for (int failures = 0;;) {
        try {
            return attempt();
        } catch (const Passing& reason) {
            if (have() - before >= progress) failures = 0;
            before = have();
            if (++failures > options.retries) throw;
            pause(failures - 1, reason);
        }
    }
}

void Downloader::Connection::complete(const RemoteFile& remote, PartialFile& file,
                                      const std::function<void(int64_t)>& moved) {
    const auto expect = [&](const char* what, int64_t expected, int64_t found) {
        if (expected != found)
            throw Damaged(what, std::to_string(expected), std::to_string(found), remote.url);
    };
    int64_t from = 0;
    const Sink sink = {
        [&](const Answer& answer) {
            if (answer.status == 200 && file.have() > 0) file.restart();
            if (answer.status == 206) {
                expect("the answer begins elsewhere in the file", from, answer.first);
                expect("the answer ends elsewhere in the file", remote.bytes - 1, answer.last);
                expect("the file has another size than announced", remote.bytes, answer.total);
            }
            if (answer.length >= 0)
                expect("the answer has another length than announced", remote.bytes - file.have(),
                       answer.length);
        },
        [&](const char* data, size_t bytes) {
            file.append(data, bytes);
            moved(file.have());
        }};
    const auto attempt = [&] {
        from = file.have();
        moved(from);
        if (from < remote.bytes) get(remote.url, from, sink);
        if (file.have() < remote.bytes)
            throw Passing("the download ended early", fmt::format("{} bytes", remote.bytes),
                          std::to_string(file.have()), remote.url);
    };
    persist(attempt, [&] { return file.have(); });
    file.finish();
}

Downloader::Downloader(DownloadOptions options)
    : connection_(std::make_unique<Connection>(std::move(options))) {}

Downloader::~Downloader() = default;

std::string Downloader::text(const std::string& url, size_t limit) {
    std::string text;
    const Sink sink = {[&](const Answer&) { text.clear(); },
                       [&](const char* data, size_t bytes) {
                           if (bytes > limit - text.size())
                               throw Error("the answer is too large",
                                           fmt::format("at most {} bytes", limit), "more", url);
                           text.append(data, bytes);
                       }};
    connection_->persist([&] { connection_->get(url, 0, sink); }, [] { return 0; });
    return text;
}

void Downloader::file(const RemoteFile& remote, const std::string& path,
                      const std::function<void(int64_t)>& moved) {
    PartialFile file(path, remote.bytes, remote.digest, [&] { connection_->check_stop(); });
    try {
        try {
            connection_->complete(remote, file, moved);
        } catch (const Damaged& e) {
            connection_->options.notice(std::string(e.what()) + "; fetching it anew");
            file.restart();
            connection_->complete(remote, file, moved);
        }
    } catch (const Damaged&) {
        std::remove(path.c_str());
        throw;
    }
}

}  // namespace internvl
