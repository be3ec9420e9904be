#include "serve/auth.h"

#include <fmt/format.h>
#include <sys/stat.h>

#include <charconv>
#include <cstring>
#include <fstream>
#include <optional>
#include <sstream>

#include "base/error.h"
#include "base/log.h"

namespace internvl {

static std::string_view trim(std::string_view text) {
    constexpr const char* space = " \t\r";
    const size_t first = text.find_first_not_of(space);
    if (first == text.npos) return {};
    return text.substr(first, text.find_last_not_of(space) - first + 1);
}

// Without an early exit: how long it takes tells nothing of where they differ.
static bool same(const DigestKey& a, const DigestKey& b) {
    unsigned different = 0;
    for (size_t i = 0; i < a.size(); ++i) different |= unsigned(a[i] ^ b[i]);
    return different == 0;
}

static void apply_option(ApiKey& key, std::string_view option, const std::string& where) {
    const size_t equals = option.find('=');
    const std::string name(trim(option.substr(0, equals)));
    if (equals == option.npos && name == "priority") {
        key.priority = true;
        return;
    }
    if (equals == option.npos && name == "file") {
        key.file = true;
        return;
    }
    int64_t* limit = name == "rpm"           ? &key.limits.rpm
                     : name == "tpm"         ? &key.limits.tpm
                     : name == "concurrency" ? &key.limits.concurrency
                                             : nullptr;
    const std::string_view value =
        equals == option.npos ? std::string_view() : trim(option.substr(equals + 1));
    if (!limit ||
        std::from_chars(value.data(), value.data() + value.size(), *limit).ptr !=
            value.data() + value.size() ||
        value.empty() || *limit < 0)
        throw UsageError("unknown option of a key", "rpm=N, tpm=N, concurrency=N, priority or file",
                         name, where);
}

void KeyRing::add(std::string name, std::string_view key, ClientLimits limits,
                  std::string_view options, const std::string& where) {
    if (key.size() < 16)
        throw UsageError("a key is too short", "at least 16 bytes", fmt::format("{}", key.size()),
                         where);
    ApiKey entry;
    entry.name = std::move(name);
    entry.digest = Digest().update(key.data(), key.size()).key();
    entry.limits = limits;
    while (!options.empty()) {
        const size_t end = options.find(',');
        if (const auto option = trim(options.substr(0, end)); !option.empty())
            apply_option(entry, option, where);
        options = end == options.npos ? std::string_view() : options.substr(end + 1);
    }
    for (const auto& other : keys_)
        if (other->name == entry.name || same(other->digest, entry.digest))
            throw UsageError("a key or its name stands twice", "each once", entry.name, where);
    keys_.push_back(std::make_shared<const ApiKey>(std::move(entry)));
}

void KeyRing::add_file(const std::string& path, const ClientLimits& usual) {
    std::ifstream in(path);
    if (!in) throw UsageError("cannot read the file of keys", "a file", "", path);
    struct stat info {};
    if (::stat(path.c_str(), &info) == 0 && (info.st_mode & 077) != 0)
        log_warning("others may read the file of keys ({}); its mode should be 0600", path);
    int number = 0;
    for (std::string text; std::getline(in, text);) {
        const std::string where = fmt::format("{}, line {}", path, ++number);
        const std::string_view line = trim(std::string_view(text).substr(0, text.find('#')));
        if (line.empty()) continue;
        const size_t first = line.find(':');
        if (first == line.npos || first == 0)
            throw UsageError("a line of keys is malformed", "name:key[:options]", "", where);
        const size_t second = line.find(':', first + 1);
        const std::string_view options =
            second == line.npos ? std::string_view() : line.substr(second + 1);
        add(std::string(line.substr(0, first)),
            trim(line.substr(first + 1, second == line.npos ? line.npos : second - first - 1)),
            usual, options, where);
    }
}

void KeyRing::add_list(const std::string& keys, const ClientLimits& usual) {
    std::stringstream in(keys);
    for (std::string entry; std::getline(in, entry, ',');) {
        const std::string_view item = trim(entry);
        if (item.empty()) continue;
        const size_t colon = item.find(':');
        add(colon == item.npos ? fmt::format("key{}", keys_.size() + 1)
                               : std::string(item.substr(0, colon)),
            colon == item.npos ? item : item.substr(colon + 1), usual, "", "INTERNVL_API_KEYS");
    }
}

std::shared_ptr<const ApiKey> KeyRing::find(std::string_view authorization) const {
    constexpr std::string_view scheme = "Bearer ";
    if (authorization.size() < scheme.size() ||
        !equal_ignoring_case(authorization.substr(0, scheme.size()), scheme))
        return nullptr;
    const std::string_view key = trim(authorization.substr(scheme.size()));
    const DigestKey digest = Digest().update(key.data(), key.size()).key();
    std::shared_ptr<const ApiKey> found;
    for (const auto& entry : keys_)
        if (same(entry->digest, digest)) found = entry;
    return found;
}

// An IPv4 address that came through an IPv6 socket is one.
static IpAddress plain(const IpAddress& ip) {
    return ip.text().starts_with("::ffff:") ? ip.unwrapped() : ip;
}

Network Network::parse(const std::string& text) {
    const auto block = AddressBlock::parse(text);
    if (!block) throw UsageError("a network is malformed", "ADDRESS/BITS", text);
    return {*block};
}

bool Network::contains(const std::string& text) const {
    const auto ip = IpAddress::parse(text);
    return ip && (block.contains(*ip) || block.contains(plain(*ip)));
}

std::string host_name(std::string_view text) {
    std::string_view host = text;
    if (host.starts_with('[')) {
        const size_t end = host.find(']');
        if (end == host.npos) return "";
        text = host.substr(end + 1);
        host = host.substr(1, end - 1);
    } else {
        const size_t colon = host.find(':');
        text = colon == host.npos ? std::string_view() : host.substr(colon);
        host = host.substr(0, colon);
    }
    if (!text.empty() && (text[0] != ':' || text.find_first_not_of("0123456789", 1) != text.npos))
        return "";
    std::string name(host);
    for (char& c : name) c = char(std::tolower(static_cast<unsigned char>(c)));
    return name;
}

bool is_loopback(const std::string& ip) {
    static const Network v4 = Network::parse("127.0.0.0/8"), v6 = Network::parse("::1");
    return ip == "localhost" || v4.contains(ip) || v6.contains(ip);
}

std::string client_address(const RequestHead& head, const std::vector<Network>& proxies) {
    const auto believed = [&](const std::string& ip) {
        for (const Network& n : proxies)
            if (n.contains(ip)) return true;
        return false;
    };
    std::string address = head.peer;
    std::string_view chain = head.header("x-forwarded-for");
    while (believed(address) && !chain.empty()) {
        const size_t comma = chain.rfind(',');
        const std::string_view next = trim(comma == chain.npos ? chain : chain.substr(comma + 1));
        if (!IpAddress::parse(next)) break;
        address = next;
        chain = comma == chain.npos ? std::string_view() : chain.substr(0, comma);
    }
    return address;
}

}  // namespace internvl
