#include "io/repository.h"

#include "base/error.h"
#include "support.h"

namespace internvl {

TEST(RepositoryNames, InnerPaths) {
    for (const char* fine : {"a", "config.json", "a/b/c.txt", ".gitattributes", "..a", "a..", "...",
                             "a b", "\xc3\xa9t\xc3\xa9.json", "refs/pr/1", "\xc2\xa0x"})
        EXPECT_TRUE(is_inner_path(fine)) << fine;
    for (const char* bad : {"", "/", "/a", "a/", "a//b", ".", "..", "a/..", "../a", "a/./b",
                            "a\\..\\b", "a\nb", "\x1b[2J", "\x7f", "\xc2\x9b", "a/\xc2\x80/b"})
        EXPECT_FALSE(is_inner_path(bad)) << bad;
    EXPECT_FALSE(is_inner_path(std::string_view("a\0b", 3)));
    EXPECT_TRUE(is_inner_path(std::string(255, 'x')));
    EXPECT_FALSE(is_inner_path(std::string(256, 'x')));
    std::string deep = "x";
    while (deep.size() < 1100) deep += "/x";
    EXPECT_FALSE(is_inner_path(deep));
}

TEST(RepositoryNames, InAddresses) {
    EXPECT_EQ(url_escape("refs/pr/1"), "refs%2Fpr%2F1");
    EXPECT_EQ(url_escape("a b/\xc3\xa9-._~?#%.json", "/"), "a%20b/%C3%A9-._~%3F%23%25.json");
}

TEST(RepositoryNames, InMessages) {
    EXPECT_EQ(printable("plain text"), "plain text");
    EXPECT_EQ(printable("a\nb\x1b[2J\xff"), "a?b?[2J?");
    EXPECT_EQ(printable(std::string(1000, 'x'), 5), "xxxxx...");
}

static std::vector<std::string> wanted(const std::vector<std::string>& names,
                                       const std::vector<std::string>& include = {},
                                       const std::vector<std::string>& exclude = {}) {
    std::vector<RepositoryFile> files;
    for (const std::string& name : names) files.push_back({name, 1, ""});
    const Selection selection = select_files(files, include, exclude);
    EXPECT_EQ(selection.wanted.size() + selection.skipped.size(), names.size());
    std::vector<std::string> found;
    for (const RepositoryFile& file : selection.wanted) found.push_back(file.name);
    return found;
}

using Names = std::vector<std::string>;

TEST(Selection, DefaultIsWhatRunsTheModel) {
    // The files of OpenGVLab/InternVL2-2B, and weights in other formats beside them.
    const Names needed = {"README.md",
                          "added_tokens.json",
                          "config.json",
                          "configuration_intern_vit.py",
                          "model-00001-of-00002.safetensors",
                          "model.safetensors.index.json",
                          "tokenizer.model",
                          "tokenizer_config.json",
                          "merges.txt",
                          "LICENSE"};
    Names all = needed;
    for (const char* other :
         {".gitattributes", "examples/image1.jpg", "examples/red-panda.mp4", "pytorch_model.bin",
          "consolidated.00.pth", "onnx/model.onnx", "model.gguf", "runs/events.out.tfevents.1"})
        all.push_back(other);
    EXPECT_EQ(wanted(all), needed);
}

TEST(Selection, OtherWeightsWithoutSafetensors) {
    EXPECT_EQ(wanted({"config.json", "pytorch_model.bin", "x.pth", "x.onnx"}),
              (Names{"config.json", "pytorch_model.bin", "x.pth"}));
    EXPECT_FALSE(select_files({{"x.bin", 1, ""}}, {}, {}).loadable);
    EXPECT_TRUE(select_files({{"x.safetensors", 1, ""}, {"x.bin", 1, ""}}, {}, {}).loadable);
    EXPECT_TRUE(select_files({{"config.json", 1, ""}}, {}, {}).loadable);
}

TEST(Selection, Patterns) {
    const Names all = {"config.json", "a/config.json", "a/b/c.bin", "[x].bin", "model.safetensors"};
    EXPECT_EQ(wanted(all, {"*"}), all);
    EXPECT_EQ(wanted(all, {"*.json"}), (Names{"config.json", "a/config.json"}));
    EXPECT_EQ(wanted(all, {"a/"}), (Names{"a/config.json", "a/b/c.bin"}));
    EXPECT_EQ(wanted(all, {"*.bin", "config.json"}),
              (Names{"config.json", "a/b/c.bin", "[x].bin"}));
    EXPECT_EQ(wanted(all, {"[[]x].bin"}), (Names{"[x].bin"}));
    EXPECT_EQ(wanted(all, {"config"}), Names{});
    EXPECT_EQ(wanted(all, {}, {"a/*"}), (Names{"config.json", "model.safetensors"}));
    EXPECT_EQ(wanted(all, {"*.json"}, {"config.json"}), (Names{"a/config.json"}));
}

TEST(Listing, AsTheHubWritesIt) {
    const std::string commit(40, 'c'), small(40, '1'), pointer(40, '2'), large(64, 'a');
    const Repository repository = parse_repository(
        nlohmann::json{
            {"sha", commit},
            {"gated", false},
            {"siblings",
             {{{"rfilename", "config.json"}, {"size", 12}, {"blobId", small}},
              {{"rfilename", "old.json"}, {"size", 0}, {"blobId", small}, {"lfs", nullptr}},
              {{"rfilename", "model.safetensors"},
               {"size", 5'000'000'000},
               {"blobId", pointer},
               {"lfs", {{"sha256", large}, {"size", 5'000'000'000}, {"pointerSize", 134}}}}}}}
            .dump(),
        "here");
    EXPECT_EQ(repository.commit, commit);
    ASSERT_EQ(repository.files.size(), 3u);
    EXPECT_EQ(repository.files[0].blob, small);
    EXPECT_EQ(repository.files[1].bytes, 0);
    EXPECT_EQ(repository.files[2].blob, large);
    EXPECT_EQ(repository.files[2].bytes, 5'000'000'000);
    EXPECT_THROW(parse_repository("{}", "here"), Error);
}

}  // namespace internvl
