#include "io/fetch.h"

#include <arpa/inet.h>
#include <curl/curl.h>
#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <string_view>

#include "io/resolve.h"

namespace internvl {

FetchError::FetchError(Why reason, const std::string& what, long answered)
    : Error(what), why(reason), status(answered) {}

namespace {

using Clock = std::chrono::steady_clock;
using Why = FetchError::Why;
using Handle = std::unique_ptr<CURL, decltype(&curl_easy_cleanup)>;
using Multi = std::unique_ptr<CURLM, decltype(&curl_multi_cleanup)>;
using List = std::unique_ptr<curl_slist, decltype(&curl_slist_free_all)>;

constexpr size_t most_header_bytes = 64 << 10;
constexpr auto tick = std::chrono::milliseconds(20);  // between looks at clock and token

// One request under way.
struct Exchange {
    Url url;
    std::vector<IpAddress> addresses;  // where it may connect
    bool direct = true;                // not by a proxy
    const FetchLimits& limits;
    CURL* handle;
    std::vector<std::byte> body = {};
    size_t header_bytes = 0;
    bool refused_peer = false, too_large = false, no_room = false, too_many_headers = false;

    long status() const {
        long status = 0;
        curl_easy_getinfo(handle, CURLINFO_RESPONSE_CODE, &status);
        return status;
    }
};

bool is_good(long status) {
    return status == 200 || status == 203;
}

bool is_redirect(long status) {
    return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

std::string header(CURL* handle, const char* name) {
    curl_header* found = nullptr;
    return curl_easy_header(handle, name, 0, CURLH_HEADER, -1, &found) == CURLHE_OK ? found->value
                                                                                    : "";
}

size_t on_header(char*, size_t, size_t bytes, void* argument) {
    Exchange& exchange = *static_cast<Exchange*>(argument);
    exchange.header_bytes += bytes;
    exchange.too_many_headers = exchange.header_bytes > most_header_bytes;
    return exchange.too_many_headers ? 0 : bytes;
}

size_t on_body(char* data, size_t, size_t bytes, void* argument) {
    Exchange& exchange = *static_cast<Exchange*>(argument);
    if (!is_good(exchange.status())) return 0;  // nobody reads what comes with an error
    curl_off_t announced = -1;
    curl_easy_getinfo(exchange.handle, CURLINFO_CONTENT_LENGTH_DOWNLOAD_T, &announced);
    const size_t room = size_t(exchange.limits.bytes) - exchange.body.size();
    exchange.too_large = bytes > room || announced > exchange.limits.bytes;
    if (exchange.too_large) return 0;
    exchange.no_room = exchange.limits.take && !exchange.limits.take(bytes);
    if (exchange.no_room) return 0;
    try {
        if (announced > 0) exchange.body.reserve(size_t(announced));
        const auto* first = reinterpret_cast<const std::byte*>(data);
        exchange.body.insert(exchange.body.end(), first, first + bytes);
    } catch (const std::bad_alloc&) {
        return 0;
    }
    return bytes;
}

std::optional<IpAddress> peer_of(const sockaddr& address) {
    IpAddress peer;
    peer.v6 = address.sa_family == AF_INET6;
    if (peer.v6)
        std::memcpy(peer.bytes.data(), &reinterpret_cast<const sockaddr_in6&>(address).sin6_addr,
                    16);
    else if (address.sa_family == AF_INET)
        std::memcpy(peer.bytes.data(), &reinterpret_cast<const sockaddr_in&>(address).sin_addr, 4);
    else
        return std::nullopt;
    return peer;
}

// The last gate: whatever the library makes of our orders, no socket to another address.
curl_socket_t on_open(void* argument, curlsocktype, curl_sockaddr* address) {
    Exchange& exchange = *static_cast<Exchange*>(argument);
    const auto peer = peer_of(address->addr);
    if (exchange.direct &&
        (!peer || std::ranges::find(exchange.addresses, *peer) == exchange.addresses.end())) {
        exchange.refused_peer = true;
        return CURL_SOCKET_BAD;
    }
    return ::socket(address->family, address->socktype | SOCK_CLOEXEC, address->protocol);
}

// NAME:PORT:ADDRESS,ADDRESS for CURLOPT_RESOLVE.
std::string pin(const Exchange& exchange) {
    std::string addresses;
    for (const IpAddress& address : exchange.addresses)
        addresses += fmt::format("{}{}", addresses.empty() ? "" : ",",
                                 address.v6 ? fmt::format("[{}]", address.text()) : address.text());
    return fmt::format("{}:{}:{}", exchange.url.host, exchange.url.port, addresses);
}

template <class T>
void set(CURL* handle, CURLoption option, T value) {
    const CURLcode code = curl_easy_setopt(handle, option, value);
    if (code == CURLE_OUT_OF_MEMORY) throw std::bad_alloc();
    if (code != CURLE_OK) throw FetchError(Why::failed, "the transfer cannot be set up");
}

void prepare(Exchange& exchange, const FetchRules& rules, curl_slist* pinned, curl_slist* headers) {
    CURL* handle = exchange.handle;
    set(handle, CURLOPT_URL, exchange.url.text().c_str());
    set(handle, CURLOPT_PROTOCOLS_STR, exchange.url.https ? "https" : "http");
    set(handle, CURLOPT_FOLLOWLOCATION, 0L);
    set(handle, CURLOPT_PROXY, rules.proxy.c_str());  // "" keeps the environment out
    set(handle, CURLOPT_NOPROXY, "");
    if (exchange.direct && !exchange.url.address) set(handle, CURLOPT_RESOLVE, pinned);
    set(handle, CURLOPT_DNS_CACHE_TIMEOUT, 0L);
    set(handle, CURLOPT_OPENSOCKETFUNCTION, on_open);
    set(handle, CURLOPT_OPENSOCKETDATA, &exchange);
    set(handle, CURLOPT_HTTPHEADER, headers);
    set(handle, CURLOPT_HTTP_TRANSFER_DECODING, 1L);
    set(handle, CURLOPT_USERAGENT, "internvl");
    set(handle, CURLOPT_NOSIGNAL, 1L);
    set(handle, CURLOPT_CONNECTTIMEOUT_MS, long(rules.connect.count()));
    set(handle, CURLOPT_HEADERFUNCTION, on_header);
    set(handle, CURLOPT_HEADERDATA, &exchange);
    set(handle, CURLOPT_WRITEFUNCTION, on_body);
    set(handle, CURLOPT_WRITEDATA, &exchange);
    if (const char* bundle = std::getenv("SSL_CERT_FILE")) set(handle, CURLOPT_CAINFO, bundle);
}

// Until the transfer has ended by itself; throws when the clock or the token ends it. Not left to
// the library's own timeouts, which do not know of the first byte and hear of no token.
CURLcode run(Exchange& exchange, CURLM* multi, const FetchRules& rules, const CancelToken& cancel) {
    const auto first_byte_due = Clock::now() + rules.connect + rules.first_byte;
    for (int running = 1;;) {
        if (curl_multi_perform(multi, &running) != CURLM_OK) throw std::bad_alloc();
        int left = 0;
        if (const CURLMsg* message = curl_multi_info_read(multi, &left))
            return message->data.result;
        if (running == 0) return CURLE_RECV_ERROR;
        const auto now = Clock::now();
        if (cancel.cancelled()) throw FetchError(Why::cancelled, "cancelled");
        curl_off_t connected = 0;  // microseconds
        curl_easy_getinfo(exchange.handle,
                          exchange.url.https ? CURLINFO_APPCONNECT_TIME_T : CURLINFO_CONNECT_TIME_T,
                          &connected);
        const auto due = connected > 0
                             ? std::min(first_byte_due, first_byte_due - rules.connect +
                                                            std::chrono::microseconds(connected))
                             : first_byte_due;
        if (now >= exchange.limits.deadline || (exchange.header_bytes == 0 && now >= due))
            throw FetchError(Why::failed, "the other side takes too long");
        curl_multi_poll(multi, nullptr, 0, int(tick.count()), nullptr);
    }
}

// The addresses of a URL's host that may all be connected to; throws when one of them may not.
std::vector<IpAddress> admitted_addresses(const Url& url, const FetchRules& rules,
                                          const FetchLimits& limits, const CancelToken& cancel) {
    std::vector<IpAddress> addresses;
    if (url.address) {
        addresses = {*url.address};
    } else {
        addresses = rules.resolve ? rules.resolve(url.host)
                                  : resolve_host(url.host, limits.deadline, cancel);
        if (cancel.cancelled()) throw FetchError(Why::cancelled, "cancelled");
        if (addresses.empty()) throw FetchError(Why::failed, "the name is not known");
    }
    for (const IpAddress& address : addresses)
        if (!may_connect(address, rules.allowed))
            throw FetchError(Why::not_allowed, "an address that is not public");
    return addresses;
}

// One request. Returns where it redirects to, or nothing with the body in place.
std::string ask(Exchange& exchange, const FetchRules& rules, const CancelToken& cancel) {
    const List pinned(curl_slist_append(nullptr, pin(exchange).c_str()), curl_slist_free_all);
    const List headers(curl_slist_append(nullptr, "Accept-Encoding: identity"),
                       curl_slist_free_all);
    const Multi multi(curl_multi_init(), curl_multi_cleanup);
    if (!pinned || !headers || !multi) throw std::bad_alloc();
    prepare(exchange, rules, pinned.get(), headers.get());
    struct Membership {
        CURLM* multi;
        CURL* handle;
        ~Membership() { curl_multi_remove_handle(multi, handle); }
    } const membership{multi.get(), exchange.handle};
    if (curl_multi_add_handle(multi.get(), exchange.handle) != CURLM_OK) throw std::bad_alloc();

    const CURLcode code = run(exchange, multi.get(), rules, cancel);
    const long status = exchange.status();
    if (exchange.refused_peer) throw FetchError(Why::not_allowed, "a peer that is not allowed");
    if (exchange.too_large) throw FetchError(Why::too_large, "the answer is too large");
    if (exchange.no_room) throw FetchError(Why::no_room, "too many bytes at once");
    if (exchange.too_many_headers) throw FetchError(Why::failed, "too many headers");
    if (is_redirect(status)) return header(exchange.handle, "Location");
    if (status != 0 && !is_good(status)) throw FetchError(Why::failed, "refused", status);
    if (code != CURLE_OK) throw FetchError(Why::failed, "the connection failed");
    const std::string encoding = header(exchange.handle, "Content-Encoding");
    if (!encoding.empty() && encoding != "identity")
        throw FetchError(Why::failed, "an encoded answer to a request for a plain one");
    return {};
}

}  // namespace

std::vector<std::byte> fetch(const std::string& address, const FetchRules& rules,
                             const FetchLimits& limits, const CancelToken& cancel) {
    static const CURLcode ready = curl_global_init(CURL_GLOBAL_DEFAULT);
    if (ready != CURLE_OK) throw std::bad_alloc();
    auto url = Url::parse(address);
    if (!url) throw FetchError(Why::malformed, "no web address");
    for (int hop = 0;; ++hop) {
        if (!rules.urls.admit(*url)) throw FetchError(Why::not_allowed, "a place not allowed");
        const bool direct = rules.proxy.empty();
        std::vector<IpAddress> addresses;
        if (direct || url->address) addresses = admitted_addresses(*url, rules, limits, cancel);
        const Handle handle(curl_easy_init(), curl_easy_cleanup);
        if (!handle) throw std::bad_alloc();
        Exchange exchange{*url, std::move(addresses), direct, limits, handle.get()};
        const std::string location = ask(exchange, rules, cancel);
        if (!is_redirect(exchange.status())) return std::move(exchange.body);
        const auto next = follow(*url, location);
        if (hop == rules.redirects || location.empty() || !next || (url->https && !next->https))
            throw FetchError(Why::not_allowed, "a redirect not allowed");
        url = next;
    }
}

}  // namespace internvl
