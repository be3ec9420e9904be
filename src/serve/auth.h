#pragma once
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/digest.h"
#include "io/ip_address.h"
#include "serve/http.h"

namespace internvl {

// What one client may do; 0 = no limit.
struct ClientLimits {
    int64_t rpm = 0, tpm = 0, concurrency = 0;
};

struct ApiKey {
    std::string name;
    DigestKey digest;  // SHA-256 of the key, which itself is not kept
    ClientLimits limits;
    bool priority = false, file = false;  // may use `priority`, file: addresses
};

// The keys that open the service; none: it is open.
class KeyRing {
  public:
    // Lines `name:key[:options]`, # begins a comment; options are rpm=N, tpm=N, concurrency=N,
    // priority and file, comma-separated. Throws UsageError, which never says a key.
    void add_file(const std::string& path, const ClientLimits& usual);
    // Keys, or name:key, comma-separated.
    void add_list(const std::string& keys, const ClientLimits& usual);

    size_t size() const { return keys_.size(); }
    // By the value of the Authorization header; null when no key fits. Takes as long whichever
    // fits.
    std::shared_ptr<const ApiKey> find(std::string_view authorization) const;

  private:
    void add(std::string name, std::string_view key, ClientLimits, std::string_view options,
             const std::string& where);
    std::vector<std::shared_ptr<const ApiKey>> keys_;
};

// A network as 10.0.0.0/8 or 2001:db8::/32; ::ffff:a.b.c.d is a.b.c.d.
struct Network {
    AddressBlock block;
    static Network parse(const std::string& text);  // throws UsageError
    bool contains(const std::string& ip) const;
};

// "host" of "host:port", in lower case and without brackets; "" when it is malformed.
std::string host_name(std::string_view host_and_port);
bool is_loopback(const std::string& ip);
// The client behind proxies that are believed: the last address that is none of theirs.
std::string client_address(const RequestHead&, const std::vector<Network>& proxies);

}  // namespace internvl
