#include "io/resolve.h"

#include <netdb.h>
#include <sys/socket.h>

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <cstring>
#include <memory>
#include <mutex>
#include <system_error>
#include <thread>

namespace internvl {
namespace {

std::vector<IpAddress> ask(const std::string& host) {
    addrinfo hints{}, *list = nullptr;
    hints.ai_socktype = SOCK_STREAM;
    if (getaddrinfo(host.c_str(), nullptr, &hints, &list) != 0) return {};
    const std::unique_ptr<addrinfo, decltype(&freeaddrinfo)> owner(list, freeaddrinfo);
    std::vector<IpAddress> addresses;
    for (const addrinfo* entry = list; entry; entry = entry->ai_next) {
        IpAddress address;
        address.v6 = entry->ai_family == AF_INET6;
        if (address.v6)
            std::memcpy(address.bytes.data(),
                        &reinterpret_cast<const sockaddr_in6*>(entry->ai_addr)->sin6_addr, 16);
        else if (entry->ai_family == AF_INET)
            std::memcpy(address.bytes.data(),
                        &reinterpret_cast<const sockaddr_in*>(entry->ai_addr)->sin_addr, 4);
        else
            continue;
        if (std::ranges::find(addresses, address) == addresses.end()) addresses.push_back(address);
    }
    return addresses;
}

// Shared with the thread that asks, which may outlive the one that wants to know.
struct Question {
    std::mutex mutex;
    std::condition_variable answered;
    bool done = false;
    std::vector<IpAddress> addresses;
};

constexpr int most_questions = 128;
std::atomic<int> open_questions = 0;

}  // namespace

std::vector<IpAddress> resolve_host(const std::string& host,
                                    std::chrono::steady_clock::time_point deadline,
                                    const CancelToken& cancel) {
    if (open_questions.fetch_add(1) >= most_questions) {
        --open_questions;
        return {};
    }
    const auto question = std::make_shared<Question>();
    try {
        std::thread([question, host] {
            std::vector<IpAddress> addresses = ask(host);
            --open_questions;
            const std::lock_guard lock(question->mutex);
            question->addresses = std::move(addresses);
            question->done = true;
            question->answered.notify_one();
        }).detach();
    } catch (const std::system_error&) {  // no more threads
        --open_questions;
        return {};
    }
    std::unique_lock lock(question->mutex);
    while (!question->done && !cancel.cancelled() && std::chrono::steady_clock::now() < deadline)
        question->answered.wait_for(lock, std::chrono::milliseconds(20));
    return question->done ? question->addresses : std::vector<IpAddress>();
}

}  // namespace internvl
