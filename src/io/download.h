#pragma once
#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "base/error.h"

namespace internvl {

struct DownloadOptions {
    std::string token;  // goes to the host that is asked, never on to where it redirects
    int timeout = 30;   // seconds to connect, and of the longest silence
    int retries = 5;    // in a row, of what may pass: lost connections, silence, 429, 5xx
    std::function<bool()> stop = [] { return false; };  // asked all the time; true ends in an Error
    std::function<void(const std::string&)> notice = [](const std::string&) {};
};

// The server's last word: to ask again would not change it.
struct HttpError : Error {
    HttpError(long status, const std::string& code, const std::string& url);
    long status;
    std::string code;  // the hub's own name for it (X-Error-Code), such as GatedRepo
};

// What the hub announces of a file's contents.
struct RemoteFile {
    std::string url;
    int64_t bytes = 0;
    std::string digest;  // 64 digits: their SHA-256; 40 digits: SHA-1 of git's blob
};

// A connection for one thread, kept open between downloads.
class Downloader {
  public:
    explicit Downloader(DownloadOptions);
    ~Downloader();

    // A text of at most `limit` bytes.
    std::string text(const std::string& url, size_t limit);

    // Completes the file at `path`, going on from what it holds. On return it is whole and its
    // digest checked; after an Error it holds what can be gone on from, or is gone. `moved` hears
    // how many bytes are there, again and again.
    void file(const RemoteFile&, const std::string& path,
              const std::function<void(int64_t bytes)>& moved);

  private:
    struct Connection;
    std::unique_ptr<Connection> connection_;
};

// Throws Error unless a page at `from` may send us on to `to`: over the web, and not out of https.
void check_redirect(const std::string& from, const std::string& to);

}  // namespace internvl
