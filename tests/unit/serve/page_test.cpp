#include "serve/page.h"

#include <filesystem>
#include <regex>
#include <set>

#include "support.h"

namespace internvl {

static std::vector<std::string> matches(std::string_view text, const std::string& pattern) {
    const std::regex regex(pattern);
    std::vector<std::string> found;
    for (std::cregex_iterator it(text.begin(), text.end(), regex), end; it != end; ++it)
        found.push_back((*it)[1]);
    return found;
}

TEST(Page, HoldsEveryFileOfTheFolderByteForByte) {
    const std::filesystem::path folder = INTERNVL_SOURCE_DIR "/web";
    size_t count = 0;
    for (const auto& entry : std::filesystem::directory_iterator(folder)) {
        const std::string name = entry.path().filename();
        const PageFile* file = find_page_file(name == "index.html" ? "/" : "/assets/" + name);
        ASSERT_NE(file, nullptr) << name;
        EXPECT_EQ(file->bytes, read_text(entry.path())) << name;
        ++count;
    }
    EXPECT_EQ(count, page_files().size());
}

TEST(Page, KnowsNoOtherPath) {
    for (const char* path : {"", "/index.html", "/assets", "/assets/", "/assets/app.js/", "//",
                             "/assets/../", "/assets/missing.js"})
        EXPECT_EQ(find_page_file(path), nullptr) << path;
}

TEST(Page, RefersOnlyToFilesThatItHas) {
    std::set<std::string> wanted;
    for (const std::string& name :
         matches(find_page_file("/")->bytes, R"re((?:src|href)="(assets/[^"]+)")re"))
        wanted.insert("/" + name);
    for (const PageFile& file : page_files())
        for (const std::string& name : matches(file.bytes, R"re(from '\./([a-z_]+\.js)')re"))
            wanted.insert("/assets/" + name);
    EXPECT_GT(wanted.size(), 10u);
    for (const std::string& path : wanted) EXPECT_NE(find_page_file(path), nullptr) << path;
}

// What the policy forbids must not be tried: a browser would refuse it and say so.
TEST(Page, HasNothingInlineAndNothingFromElsewhere) {
    const std::regex inline_code(R"re(<style|<script>|\sstyle="|\son[a-z]+="|javascript:)re");
    EXPECT_FALSE(std::regex_search(std::string(find_page_file("/")->bytes), inline_code));
    const std::regex markup(
        R"re(innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\()re");
    const std::regex elsewhere(R"re(https?://(?!www\.w3\.org/))re");
    for (const PageFile& file : page_files()) {
        const std::string text(file.bytes);
        EXPECT_FALSE(std::regex_search(text, markup)) << file.path;
        // markdown.js names the schemes of links; nothing else may hold an address.
        if (file.path == "/assets/markdown.js") continue;
        EXPECT_FALSE(std::regex_search(text, elsewhere)) << file.path;
    }
}

TEST(Page, SaysTheTypeOfEachFile) {
    EXPECT_EQ(find_page_file("/")->content_type, "text/html; charset=utf-8");
    EXPECT_EQ(find_page_file("/assets/app.js")->content_type, "text/javascript; charset=utf-8");
    EXPECT_EQ(find_page_file("/assets/style.css")->content_type, "text/css; charset=utf-8");
    EXPECT_EQ(find_page_file("/assets/icon.svg")->content_type, "image/svg+xml");
}

}  // namespace internvl
