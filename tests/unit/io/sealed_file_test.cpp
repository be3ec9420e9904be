// Large files that are mapped and used in place: found whole, or not at all.
#include "io/sealed_file.h"

#include <fcntl.h>
#include <sys/file.h>

#include <cstring>

#include "io/descriptor.h"
#include "io/mapped_file.h"
#include "io/sealed_writer.h"
#include "support.h"

namespace internvl {

static SealedHead head_of(int64_t bytes, int content) {
    SealedHead head;
    head.bytes = bytes;
    head.identity.fill(uint8_t(content));
    head.plan.fill(uint8_t(content + 1));
    return head;
}

static std::shared_ptr<void> image_of(int64_t bytes, int content) {
    std::shared_ptr<char[]> image(new char[size_t(bytes)]);
    for (int64_t i = 0; i < bytes; ++i) image[size_t(i)] = char(i * 7919 + i / 251 + content);
    return {image, image.get()};
}

class Sealed : public testing::Test {
  protected:
    void write(int64_t bytes, int content = 1, const std::atomic<bool>* cancel = nullptr) {
        SealedWriter(path, head_of(bytes, content), image_of(bytes, content), cancel);
    }
    bool found() {
        if (!std::filesystem::exists(path) || std::filesystem::file_size(path) == 0) return false;
        const MappedFile file = MappedFile::open(path);
        const auto head = read_head(file.bytes());
        return head && is_whole(file.bytes(), *head, pool);
    }
    void replace(const std::string& text) { std::ofstream(path, std::ios::binary) << text; }

    ThreadPool pool{2};
    TemporaryFolder folder;
    const std::string path = folder / "a/b/weights";
};

TEST_F(Sealed, IsFoundAsItWasWritten) {
    const int64_t small = int64_t(sizeof(SealedHead));
    for (const int64_t bytes :
         {small, small + 1, seal_block - 1, seal_block, seal_block + 1, 2 * seal_block + 12345}) {
        write(bytes);
        ASSERT_TRUE(found()) << bytes;
        const MappedFile file = MappedFile::open(path);
        EXPECT_EQ(int64_t(file.bytes().size()), sealed_bytes(bytes));
        const SealedHead expected = head_of(bytes, 1);
        EXPECT_EQ(std::memcmp(file.bytes().data(), &expected, sizeof expected), 0);
        EXPECT_EQ(std::memcmp(file.bytes().data() + sizeof expected,
                              static_cast<char*>(image_of(bytes, 1).get()) + sizeof expected,
                              size_t(bytes) - sizeof expected),
                  0);
        EXPECT_FALSE(std::filesystem::exists(path + ".part"));
    }
}

TEST_F(Sealed, DamageIsSeen) {
    write(1000);
    const std::string whole = read_text(path);
    std::vector<std::string> damaged = {"", whole.substr(0, 20), whole.substr(0, whole.size() - 1),
                                        whole + "x", whole + std::string(16, '\0')};
    for (size_t i = 0; i < whole.size(); ++i) {
        damaged.push_back(whole);
        damaged.back()[i] = char(damaged.back()[i] ^ 1 << i % 8);
    }
    for (const std::string& text : damaged) {
        replace(text);
        EXPECT_FALSE(found());
    }
    write(1000);
    EXPECT_TRUE(found());
}

TEST_F(Sealed, EveryBlockCounts) {
    const int64_t bytes = 2 * seal_block + 100;
    write(bytes);
    const std::string whole = read_text(path);
    for (const int64_t at : {int64_t(200), seal_block - 1, seal_block, 2 * seal_block, bytes - 1}) {
        std::string text = whole;
        text[size_t(at)] = char(text[size_t(at)] ^ 4);
        replace(text);
        EXPECT_FALSE(found()) << at;
    }
    replace(whole);
    EXPECT_TRUE(found());
}

// Who has the old one mapped keeps it.
TEST_F(Sealed, IsReplacedAsAWhole) {
    write(5000, 1);
    const MappedFile old = MappedFile::open(path);
    const std::string before(reinterpret_cast<const char*>(old.bytes().data()), old.bytes().size());
    write(3000, 2);
    EXPECT_EQ(std::memcmp(old.bytes().data(), before.data(), before.size()), 0);
    EXPECT_TRUE(found());
    EXPECT_EQ(int64_t(std::filesystem::file_size(path)), sealed_bytes(3000));
}

TEST_F(Sealed, HasOneWriter) {
    std::filesystem::create_directories(folder / "a/b");
    {
        const Descriptor other(::open((path + ".part").c_str(), O_RDWR | O_CREAT, 0644));
        ASSERT_EQ(::flock(other.fd, LOCK_EX | LOCK_NB), 0);
        write(1000);
        EXPECT_FALSE(std::filesystem::exists(path));
    }
    // What a writer that was killed left behind is taken over.
    std::ofstream(path + ".part") << std::string(5000, 'x');
    write(1000);
    EXPECT_TRUE(found());
    EXPECT_FALSE(std::filesystem::exists(path + ".part"));
}

TEST_F(Sealed, IsGivenUpOnRequest) {
    const std::atomic<bool> cancel = true;
    testing::internal::CaptureStderr();
    for (int i = 0; i < 20; ++i) write(20 * seal_block, 1, &cancel);
    EXPECT_EQ(testing::internal::GetCapturedStderr(), "");
    EXPECT_FALSE(std::filesystem::exists(path + ".part"));
    if (std::filesystem::exists(path)) {  // one was so fast that nobody waited
        EXPECT_TRUE(found());
    }
}

TEST_F(Sealed, WhatCannotBeWrittenIsNotKept) {
    folder.write("a", "not a folder");
    testing::internal::CaptureStderr();
    write(1000);
    std::string said = testing::internal::GetCapturedStderr();
    EXPECT_EQ(std::ranges::count(said, '\n'), 1) << said;
    // A link in the way is not followed.
    std::filesystem::remove(folder / "a");
    std::filesystem::create_directories(folder / "a/b");
    const std::string precious = folder.write("precious", "mine");
    std::filesystem::create_symlink(precious, path + ".part");
    testing::internal::CaptureStderr();
    write(1000);
    said = testing::internal::GetCapturedStderr();
    EXPECT_EQ(std::ranges::count(said, '\n'), 1) << said;
    EXPECT_EQ(read_text(precious), "mine");
    EXPECT_FALSE(std::filesystem::exists(path));
}

}  // namespace internvl
