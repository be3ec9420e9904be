#include "io/download.h"

#include "io/hub.h"
#include "io/partial_file.h"
#include "support.h"

namespace internvl {

TEST(Redirect, OnlyOverTheWebAndNeverOutOfHttps) {
    for (const char* to : {"https://cdn.example/x", "https://hub.example/x"}) {
        EXPECT_NO_THROW(check_redirect("https://hub.example/a", to));
        EXPECT_NO_THROW(check_redirect("http://hub.example/a", to));
    }
    EXPECT_NO_THROW(check_redirect("http://127.0.0.1:1/a", "http://127.0.0.1:2/b"));
    for (const char* to : {"http://hub.example/x", "HTTP://hub.example/x", "file:///etc/passwd",
                           "ftp://hub.example/x", "", "nonsense", "data:text/plain,x"})
        EXPECT_THROW(check_redirect("https://hub.example/a", to), Error) << to;
    EXPECT_THROW(check_redirect("http://hub.example/a", "file:///etc/passwd"), Error);
}

TEST(PartialFile, GoesOnFromWhatIsThere) {
    const TemporaryFolder folder;
    const std::string path = folder.write("x.incomplete", "abc");
    const std::string sha256 = sha256_hex("abcdef", 6);
    const auto nothing = [] {};
    {
        PartialFile file(path, 6, sha256, nothing);
        EXPECT_EQ(file.have(), 3);
        file.append("def", 3);
        EXPECT_THROW(file.append("g", 1), Damaged);
        file.finish();
    }
    EXPECT_EQ(read_text(path), "abcdef");
    {
        PartialFile file(path, 3, sha256, nothing);  // of something larger
        EXPECT_EQ(file.have(), 0);
        file.append("abc", 3);
        EXPECT_THROW(file.finish(), Damaged);
        file.restart();
        EXPECT_EQ(file.have(), 0);
    }
    EXPECT_EQ(read_text(path), "");
}

TEST(PartialFile, GitsDigest) {
    const TemporaryFolder folder;
    // printf hello | git hash-object --stdin
    PartialFile file(folder / "x", 5, "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0", [] {});
    file.append("hello", 5);
    EXPECT_NO_THROW(file.finish());
}

TEST(RepositoryId, AsTheHubAllows) {
    for (const char* fine : {"OpenGVLab/InternVL2-1B", "01-ai/Yi_1.5", "a/b"})
        EXPECT_TRUE(is_repository(fine)) << fine;
    for (const char* bad : {"", "/", "a", "a/", "/a", "a/b/c", "../a", "a/..", "a/.b", "a/b.",
                            "a/-b", "a--b/c", "a/b..c", "a/b c", "a/b?c", "a/b\n"})
        EXPECT_FALSE(is_repository(bad)) << bad;
    EXPECT_EQ(repository_folder("OpenGVLab/InternVL2-1B"), "models--OpenGVLab--InternVL2-1B");
}

}  // namespace internvl
