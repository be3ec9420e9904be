#include "io/rooted_folder.h"

#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "support.h"

namespace internvl {
namespace {

namespace fs = std::filesystem;

class RootedFolders : public testing::TestWithParam<bool> {};

TEST_P(RootedFolders, GiveWhatLiesBeneathAndNothingElse) {
    const TemporaryFolder folder;
    const std::string root = folder / "root";
    fs::create_directories(root + "/inner/..x");
    fs::create_directories(folder / "root2");
    std::ofstream(root + "/a.png") << "picture";
    std::ofstream(root + "/inner/..x/b") << "deep";
    std::ofstream(folder / "secret") << "secret";
    std::ofstream(folder / "root2/c") << "secret";
    fs::create_symlink("../secret", root + "/out");
    fs::create_symlink("a.png", root + "/in");
    fs::create_directory_symlink("..", root + "/up");
    fs::create_directory_symlink("inner", root + "/same");
    fs::create_symlink("/proc/self/fd/0", root + "/magic");
    ASSERT_EQ(::mkfifo((root + "/pipe").c_str(), 0600), 0);

    const RootedFolder files(root, GetParam());
    const auto read = [&](const std::string& path, int64_t limit = 1000) {
        const auto bytes = files.read(path, limit);
        return bytes ? std::string(reinterpret_cast<const char*>(bytes->data()), bytes->size())
                     : "none";
    };
    EXPECT_EQ(read(root + "/a.png"), "picture");
    EXPECT_EQ(read(root + "/inner/..x/b"), "deep");
    EXPECT_EQ(read(root + "/a.png", 7), "picture");
    EXPECT_EQ(read(root + "/a.png", 6), "none");
    for (const std::string& path : {root + "/missing",
                                    root + "/out",
                                    root + "/in",
                                    root + "/up/secret",
                                    root + "/same/..x/b",
                                    root + "/magic",
                                    root + "/pipe",
                                    root + "/inner",
                                    root,
                                    root + "/",
                                    root + "/../secret",
                                    root + "/inner/../a.png",
                                    root + "/./a.png",
                                    root + "//a.png",
                                    root + "/a.png/",
                                    folder / "secret",
                                    folder / "root2/c",
                                    std::string("/etc/passwd"),
                                    std::string("/dev/zero"),
                                    std::string("a.png"),
                                    std::string(),
                                    root + std::string("/a.png\0x", 8)})
        EXPECT_EQ(read(path), "none") << path;
    EXPECT_THROW(RootedFolder(folder / "nowhere"), Error);
    EXPECT_THROW(RootedFolder(folder / "secret"), Error);
}

INSTANTIATE_TEST_SUITE_P(BothWays, RootedFolders, testing::Bool());

}  // namespace
}  // namespace internvl
