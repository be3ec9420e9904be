#include "serve/auth.h"

#include <gtest/gtest.h>
#include <sys/stat.h>

#include <fstream>

#include "base/error.h"
#include "support.h"

namespace internvl {

static void write_text(const std::string& path, const std::string& text) {
    std::ofstream(path, std::ios::binary) << text;
}

static const std::string alice = "alice-0123456789", bob = "bob-0123456789ab";

TEST(KeyRing, ReadsNamesKeysAndOptions) {
    const TemporaryFolder folder;
    write_text(folder / "keys", "# ours\n\n alice:" + alice + " \nbob:" + bob +
                                    ":rpm=60, tpm=1000,concurrency=2,priority,file # all\n");
    ::chmod((folder / "keys").c_str(), 0600);
    KeyRing ring;
    ring.add_file(folder / "keys", {.rpm = 5});
    ASSERT_EQ(ring.size(), 2u);
    const auto first = ring.find("Bearer " + alice), second = ring.find("bearer  " + bob);
    ASSERT_TRUE(first && second);
    EXPECT_EQ(first->name, "alice");
    EXPECT_EQ(first->limits.rpm, 5);
    EXPECT_FALSE(first->priority || first->file);
    EXPECT_EQ(second->limits.rpm, 60);
    EXPECT_EQ(second->limits.tpm, 1000);
    EXPECT_EQ(second->limits.concurrency, 2);
    EXPECT_TRUE(second->priority && second->file);
    for (const char* wrong : {"", "Bearer", "Bearer ", "Bearer alice", "Basic alice-0123456789",
                              "alice-0123456789", "Bearer alice-0123456788"})
        EXPECT_EQ(ring.find(wrong), nullptr) << wrong;
}

TEST(KeyRing, RefusesWhatIsMalformedAndNeverSaysAKey) {
    for (const std::string& line :
         {std::string("alice"), ":" + alice, std::string("alice:short"), "alice:" + alice + ":rpm",
          "alice:" + alice + ":rpm=-1", "alice:" + alice + ":rpm=1x", "alice:" + alice + ":admin",
          "a:" + alice + "\nb:" + alice, "a:" + alice + "\na:" + bob}) {
        const TemporaryFolder folder;
        write_text(folder / "keys", line + "\n");
        KeyRing ring;
        try {
            ring.add_file(folder / "keys", {});
            ADD_FAILURE() << line;
        } catch (const UsageError& e) {
            EXPECT_EQ(std::string(e.what()).find(alice), std::string::npos) << e.what();
        }
    }
    KeyRing ring;
    EXPECT_THROW(ring.add_file("/nowhere/keys", {}), UsageError);
    EXPECT_THROW(ring.add_list("short", {}), UsageError);
    ring.add_list(alice + ",bob:" + bob + ",", {});
    EXPECT_EQ(ring.size(), 2u);
}

TEST(Network, ContainsByBits) {
    EXPECT_TRUE(Network::parse("10.0.0.0/8").contains("10.200.1.1"));
    EXPECT_FALSE(Network::parse("10.0.0.0/8").contains("11.0.0.1"));
    EXPECT_TRUE(Network::parse("10.0.0.0/8").contains("::ffff:10.1.1.1"));
    EXPECT_TRUE(Network::parse("2001:db8::/33").contains("2001:db8:7fff::1"));
    EXPECT_FALSE(Network::parse("2001:db8::/33").contains("2001:db8:8000::1"));
    EXPECT_TRUE(Network::parse("192.0.2.1").contains("192.0.2.1"));
    EXPECT_FALSE(Network::parse("192.0.2.1").contains("not an address"));
    for (const char* wrong : {"", "10.0.0.0/33", "10.0.0/8", "::/129", "10.0.0.0/x", "host/8"})
        EXPECT_THROW(Network::parse(wrong), UsageError) << wrong;
}

TEST(HostName, TakesThePortOff) {
    EXPECT_EQ(host_name("LocalHost:80"), "localhost");
    EXPECT_EQ(host_name("[::1]:80"), "::1");
    EXPECT_EQ(host_name("[::1]"), "::1");
    for (const char* wrong : {"[::1", "host:80x", "host:80:90", "[::1]x"})
        EXPECT_EQ(host_name(wrong), "") << wrong;
}

TEST(ClientAddress, BelievesOnlyKnownProxies) {
    const std::vector<Network> proxies{Network::parse("10.0.0.0/8")};
    RequestHead head;
    head.peer = "10.0.0.1";
    head.headers = {{"X-Forwarded-For", "6.6.6.6, 192.0.2.7, 10.0.0.2"}};
    EXPECT_EQ(client_address(head, proxies), "192.0.2.7");
    EXPECT_EQ(client_address(head, {}), "10.0.0.1");
    head.peer = "192.0.2.9";
    EXPECT_EQ(client_address(head, proxies), "192.0.2.9");
    head.peer = "10.0.0.1";
    head.headers = {{"X-Forwarded-For", "192.0.2.7, nonsense"}};
    EXPECT_EQ(client_address(head, proxies), "10.0.0.1");
}

}  // namespace internvl
