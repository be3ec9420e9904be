// https with a certificate that must fit the name, though the connection goes to a pinned address.
#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <cstdlib>
#include <thread>

#include "io/descriptor.h"
#include "io/fetch.h"
#include "support.h"

namespace internvl {
namespace {

using namespace std::chrono_literals;
using Why = FetchError::Why;

// openssl's own server; each file is a whole answer.
class TlsServer {
  public:
    TlsServer() {
        const std::string make =
            "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 "
            "-subj /CN=a.example -addext subjectAltName=DNS:a.example -keyout " +
            folder_ / "key" + " -out " + folder_ / "cert" + " 2>/dev/null";
        if (std::system(make.c_str()) != 0) return;
        port_ = free_port();
        pid_ = ::fork();
        if (pid_ == 0) {
            const int nothing = ::open("/dev/null", O_RDWR);
            for (const int fd : {0, 1, 2}) ::dup2(nothing, fd);
            if (::chdir(folder_.path().c_str()) != 0) ::_exit(1);
            const std::string accept = "127.0.0.1:" + std::to_string(port_);
            ::execlp("openssl", "openssl", "s_server", "-HTTP", "-accept", accept.c_str(), "-cert",
                     "cert", "-key", "key", nullptr);
            ::_exit(1);
        }
        for (int i = 0; i < 500 && !ready_; ++i) {
            ready_ = connects();
            if (!ready_) std::this_thread::sleep_for(10ms);
        }
    }
    ~TlsServer() {
        if (pid_ <= 0) return;
        ::kill(pid_, SIGKILL);
        ::waitpid(pid_, nullptr, 0);
    }
    bool ready() const { return ready_; }
    uint16_t port() const { return port_; }
    std::string certificate() const { return folder_ / "cert"; }
    void answer(const std::string& name, const std::string& text) const {
        std::ofstream(folder_ / name, std::ios::binary) << text;
    }

  private:
    static sockaddr_in here(uint16_t port) {
        sockaddr_in address{};
        address.sin_family = AF_INET;
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        address.sin_port = htons(port);
        return address;
    }
    static uint16_t free_port() {
        const Descriptor socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        sockaddr_in address = here(0);
        socklen_t size = sizeof address;
        ::bind(socket.fd, reinterpret_cast<sockaddr*>(&address), size);
        ::getsockname(socket.fd, reinterpret_cast<sockaddr*>(&address), &size);
        return ntohs(address.sin_port);
    }
    bool connects() const {
        const Descriptor socket(::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
        const sockaddr_in address = here(port_);
        return ::connect(socket.fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) ==
               0;
    }

    TemporaryFolder folder_;
    uint16_t port_ = 0;
    pid_t pid_ = 0;
    bool ready_ = false;
};

TEST(FetchTls, TheCertificateFitsTheNameAndHttpsStaysHttps) {
    const TlsServer server;
    if (!server.ready()) GTEST_SKIP() << "needs the program openssl";
    server.answer("picture", "HTTP/1.0 200 OK\r\n\r\npicture");
    server.answer("down", "HTTP/1.0 302 Found\r\nLocation: http://a.example/picture\r\n\r\n");
    server.answer("along", "HTTP/1.0 302 Found\r\nLocation: /picture\r\n\r\n");
    FetchRules rules;
    rules.urls.ports = {server.port()};
    rules.allowed = {AddressBlock::parse("127.0.0.1").value()};
    rules.resolve = [](const std::string&) {
        return std::vector{IpAddress::parse("127.0.0.1").value()};
    };
    const auto get = [&](const std::string& host, const std::string& target) {
        const FetchLimits limits{.deadline = std::chrono::steady_clock::now() + 5s};
        const auto body = fetch("https://" + host + ":" + std::to_string(server.port()) + target,
                                rules, limits, {});
        return std::string(reinterpret_cast<const char*>(body.data()), body.size());
    };
    const auto why = [&](const std::string& host, const std::string& target) {
        try {
            get(host, target);
        } catch (const FetchError& error) {
            return error.why;
        }
        return Why::cancelled;
    };
    EXPECT_EQ(why("a.example", "/picture"), Why::failed);  // signed by nobody whom we know
    ::setenv("SSL_CERT_FILE", server.certificate().c_str(), 1);
    EXPECT_EQ(get("a.example", "/picture"), "picture");
    EXPECT_EQ(get("a.example", "/along"), "picture");
    EXPECT_EQ(why("b.example", "/picture"), Why::failed);
    EXPECT_EQ(why("127.0.0.1", "/picture"), Why::failed);
    EXPECT_EQ(why("a.example", "/down"), Why::not_allowed);
    ::unsetenv("SSL_CERT_FILE");
}

}  // namespace
}  // namespace internvl
