#include "io/url.h"

#include <gtest/gtest.h>

namespace internvl {
namespace {

TEST(Url, ReadsWhatIsClear) {
    struct Row {
        const char *text, *host, *target;
        int port;
    };
    for (const Row& row : {
             Row{"https://example.com", "example.com", "/", 443},
             Row{"HTTP://EXAMPLE.com:8080/A?b=c#d", "example.com", "/A?b=c", 8080},
             Row{"http://example.com?x=//@y", "example.com", "/?x=//@y", 80},
             Row{"http://example.com#@127.0.0.1/", "example.com", "/", 80},
             Row{"https://xn--bcher-kva.example./x", "xn--bcher-kva.example", "/x", 443},
             Row{"http://93.184.216.34/", "93.184.216.34", "/", 80},
             Row{"http://[2606:2800::1]:81/", "2606:2800::1", "/", 81},
             Row{"https://a_b.example/\xC3\xA9.png", "a_b.example", "/%C3%A9.png", 443},
             Row{"http://1.example/", "1.example", "/", 80},
         }) {
        const auto url = Url::parse(row.text);
        ASSERT_TRUE(url) << row.text;
        EXPECT_EQ(url->host, row.host);
        EXPECT_EQ(url->target, row.target);
        EXPECT_EQ(url->port, row.port);
        EXPECT_EQ(url->address.has_value(), url->host.starts_with("93.") || row.port == 81);
        const auto again = Url::parse(url->text());
        ASSERT_TRUE(again) << url->text();
        EXPECT_EQ(again->text(), url->text());
    }
}

TEST(Url, RefusesWhatCanBeReadInTwoWays) {
    for (const std::string text : {
             "",
             "http",
             "http:",
             "http://",
             "http:/example.com/",
             "http:example.com",
             "//example.com/",
             "example.com",
             "/etc/passwd",
             "gopher://example.com/",
             "ftp://example.com/",
             "file:///etc/passwd",
             "javascript:alert(1)",
             "data:,x",
             "http://good.example\\@127.0.0.1/",
             "http://good@127.0.0.1/",
             "http://a:b@c.example/",
             "http://@c.example/",
             "http://good.example:80@127.0.0.1/",
             "http://exa mple.com/",
             " http://example.com/",
             "http://example.com/ ",
             "http://example.com/\t",
             "http://example.com/\r\nHost: x",
             "http://ex\xC3\xA4mple.com/",
             "http://a%2eb/",
             "http://2130706433/",
             "http://0x7f.1/",
             "http://0x7f000001/",
             "http://017700000001/",
             "http://127.1/",
             "http://127.0.1/",
             "http://0177.0.0.1/",
             "http://127.0.0.01/",
             "http://1.2.3.4.5/",
             "http://256.1.1.1/",
             "http://1.2.3.4./",
             "http://1.2.3.0x4/",
             "http://example.1/",
             "http://[::1/",
             "http://::1/",
             "http://[fe80::1%25eth0]/",
             "http://[fe80::1%eth0]/",
             "http://[::1]x/",
             "http://[127.0.0.1]/",
             "http://[]/",
             "http://[v1.x]/",
             "http://.example/",
             "http://a..b/",
             "http://example.com../",
             "http://-a.example/",
             "http://a-.example/",
             "http://a*b.example/",
             "http://a,b/",
             "http://example.com:/",
             "http://example.com:0/",
             "http://example.com:080/",
             "http://example.com:65536/",
             "http://example.com:+80/",
             "http://example.com:80a/",
             "http://example.com:80:80/",
         })
        EXPECT_FALSE(Url::parse(text)) << text;
    EXPECT_FALSE(Url::parse(std::string("http://a\0b.example/", 19)));
    EXPECT_FALSE(Url::parse("http://example.com/\x7F"));
    EXPECT_FALSE(Url::parse("http://" + std::string(64, 'a') + ".example/"));
    EXPECT_FALSE(Url::parse("http://example.com/" + std::string(longest_url, 'a')));
    EXPECT_TRUE(Url::parse("http://example.com/" + std::string(longest_url - 19, 'a')));
}

TEST(Url, FollowsLocations) {
    const Url base = Url::parse("https://a.example:8443/b/c?d=/e").value();
    const auto to = [&](const char* location) {
        const auto url = follow(base, location);
        return url ? url->text() : "none";
    };
    EXPECT_EQ(to("http://x.example/y"), "http://x.example/y");
    EXPECT_EQ(to("//x.example/y"), "https://x.example/y");
    EXPECT_EQ(to("/y"), "https://a.example:8443/y");
    EXPECT_EQ(to("y/z?q"), "https://a.example:8443/b/y/z?q");
    EXPECT_EQ(to("?q"), "https://a.example:8443/b/c?q");
    EXPECT_EQ(to("#f"), "https://a.example:8443/b/c?d=/e");
    EXPECT_EQ(to(""), "https://a.example:8443/b/c?d=/e");
    EXPECT_EQ(to("2020:x"), "https://a.example:8443/b/2020:x");
    for (const char* location : {"gopher://x/", "file:///etc/passwd", "data:,x", "//x@y/",
                                 "///etc/passwd", "\\\\x\\y", "/a b", "http:/x"})
        EXPECT_EQ(to(location), "none") << location;
}

TEST(UrlRules, SchemesPortsAndHosts) {
    const auto admit = [](const UrlRules& rules, const char* text) {
        return rules.admit(Url::parse(text).value());
    };
    EXPECT_TRUE(admit({}, "http://a.example/"));
    EXPECT_TRUE(admit({}, "https://a.example/"));
    EXPECT_FALSE(admit({.schemes = UrlRules::Schemes::https}, "http://a.example/"));
    EXPECT_TRUE(admit({.schemes = UrlRules::Schemes::https}, "https://a.example/"));
    EXPECT_FALSE(admit({.schemes = UrlRules::Schemes::off}, "https://a.example/"));
    EXPECT_FALSE(admit({}, "http://a.example:22/"));
    EXPECT_FALSE(admit({}, "http://a.example:443/"));
    EXPECT_FALSE(admit({}, "https://a.example:80/"));
    EXPECT_TRUE(admit({.ports = {8080}}, "http://a.example:8080/"));

    const UrlRules lists{
        .ports = {}, .allow = {"a.example", "*.B.example"}, .deny = {"x.b.example"}};
    EXPECT_TRUE(admit(lists, "http://a.example/"));
    EXPECT_TRUE(admit(lists, "http://A.example./"));
    EXPECT_TRUE(admit(lists, "http://y.b.example/"));
    for (const char* text : {"http://x.b.example/", "http://X.b.example./", "http://b.example/",
                             "http://za.example/", "http://y.a.example/", "http://yb.example/"})
        EXPECT_FALSE(admit(lists, text)) << text;

    for (const char* text : {"a.example", "*.a.example", "127.0.0.1", "::1"})
        EXPECT_TRUE(is_host_pattern(text)) << text;
    for (const char* text : {"", "*", "*.", "a*.example", "*.1.2.3.4", "http://a", "a:80", "a/"})
        EXPECT_FALSE(is_host_pattern(text)) << text;
}

TEST(IpAddress, OnlyCanonicalTexts) {
    for (const char* text : {"127.0.0.1", "::1", "2606:2800::1", "::ffff:1.2.3.4"}) {
        const auto address = IpAddress::parse(text);
        ASSERT_TRUE(address) << text;
        EXPECT_EQ(address->text(), text);
    }
    for (const char* text : {"", "1", "1.2.3", "01.2.3.4", "1.2.3.4 ", "0x1.2.3.4", "::1%lo", ":",
                             "1.2.3.4/8", "g::1"})
        EXPECT_FALSE(IpAddress::parse(text)) << text;
    EXPECT_FALSE(IpAddress::parse(std::string_view("1.2.3.4\0", 8)));
}

TEST(IpAddress, OnlyThePublicInternet) {
    for (const char* text : {"0.0.0.0",
                             "0.1.2.3",
                             "10.0.0.1",
                             "100.64.0.1",
                             "100.127.255.255",
                             "127.0.0.1",
                             "127.255.255.255",
                             "169.254.169.254",
                             "172.16.0.1",
                             "172.31.255.255",
                             "192.0.0.1",
                             "192.0.2.1",
                             "192.88.99.1",
                             "192.168.0.1",
                             "198.18.0.1",
                             "198.19.255.255",
                             "198.51.100.7",
                             "203.0.113.9",
                             "224.0.0.1",
                             "239.255.255.255",
                             "240.0.0.1",
                             "255.255.255.255",
                             "::",
                             "::1",
                             "::7f00:1",
                             "::ffff:127.0.0.1",
                             "::ffff:10.0.0.1",
                             "64:ff9b::7f00:1",
                             "64:ff9b::a9fe:a9fe",
                             "64:ff9b:1::1",
                             "fe80::1",
                             "fc00::1",
                             "fd12::1",
                             "ff02::1",
                             "100::1",
                             "2001::1",
                             "2001:1ff::1",
                             "2001:db8::1",
                             "2002:7f00:1::",
                             "2002:5db8::",
                             "3fff::1",
                             "3fff:fff::1",
                             "4000::1",
                             "1fff::1"})
        EXPECT_FALSE(may_connect(IpAddress::parse(text).value(), {})) << text;
    for (const char* text :
         {"1.1.1.1",        "9.255.255.255",        "11.0.0.0",          "93.184.216.34",
          "100.63.255.255", "100.128.0.0",          "126.255.255.255",   "128.0.0.0",
          "169.253.0.1",    "172.15.0.1",           "172.32.0.1",        "192.0.1.1",
          "192.167.0.1",    "198.17.0.1",           "198.20.0.1",        "223.255.255.255",
          "2606:2800::1",   "2001:200::1",          "2003::1",           "3ffe::1",
          "3fff:1000::1",   "::ffff:93.184.216.34", "64:ff9b::5db8:d822"})
        EXPECT_TRUE(may_connect(IpAddress::parse(text).value(), {})) << text;
}

TEST(IpAddress, WhatIsAllowedBesides) {
    const auto allowed = [](const char* address, const char* block) {
        return may_connect(IpAddress::parse(address).value(), {AddressBlock::parse(block).value()});
    };
    EXPECT_TRUE(allowed("127.0.0.1", "127.0.0.1/32"));
    EXPECT_TRUE(allowed("127.0.0.1", "127.0.0.1"));
    EXPECT_FALSE(allowed("127.0.0.2", "127.0.0.1/32"));
    EXPECT_TRUE(allowed("::ffff:10.1.2.3", "10.0.0.0/8"));
    EXPECT_TRUE(allowed("fd00::1", "fd00::/8"));
    EXPECT_FALSE(allowed("fe80::1", "fd00::/8"));
    EXPECT_TRUE(allowed("::1", "::1/128"));
    EXPECT_FALSE(allowed("10.0.0.1", "::/0"));
    EXPECT_TRUE(allowed("10.0.0.1", "0.0.0.0/0"));
    EXPECT_TRUE(allowed("192.168.3.7", "192.168.3.0/29"));
    EXPECT_FALSE(allowed("192.168.3.8", "192.168.3.0/29"));
    for (const char* text :
         {"", "/8", "10.0.0.0/", "10.0.0.0/33", "::/129", "10.0.0.0/-1", "10/8", "10.0.0.0/8x"})
        EXPECT_FALSE(AddressBlock::parse(text)) << text;
}

}  // namespace
}  // namespace internvl
