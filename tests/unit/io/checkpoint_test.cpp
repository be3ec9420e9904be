#include "io/checkpoint.h"

#include "base/error.h"
#include "io/hub.h"
#include "support.h"

namespace internvl {

namespace fs = std::filesystem;

static void write_shard(const std::string& path, const std::vector<std::string>& names) {
    std::vector<TensorPlan> plan;
    for (const std::string& name : names) plan.push_back({name, DType::f32, {1}});
    SafetensorsWriter writer(path, plan);
    const float x = 1;
    for (size_t i = 0; i < names.size(); ++i) writer.write(&x, 4);
    writer.finish();
}

static std::string error_of(const std::function<void()>& f) {
    try {
        f();
    } catch (const Error& e) {
        return e.what();
    }
    return "no error";
}

TEST(Checkpoint, ShardsWithAnIndex) {
    const TemporaryFolder folder;
    write_shard(folder / "s1.safetensors", {"a", "b"});
    write_shard(folder / "s2.safetensors", {"c"});
    folder.write(
        "model.safetensors.index.json",
        R"({"weight_map":{"a":"s1.safetensors","b":"s1.safetensors","c":"s2.safetensors"}})");
    const Checkpoint c(ModelFolder::open(folder.path()));
    EXPECT_EQ(c.entries().size(), 3u);
    EXPECT_NE(c.find("c"), nullptr);
    EXPECT_EQ(c.find("d"), nullptr);
    EXPECT_EQ(c.total_bytes(), 12);
}

TEST(Checkpoint, EverythingWrongIsReportedAtOnce) {
    const TemporaryFolder folder;
    write_shard(folder / "s1.safetensors", {"a", "b"});
    write_shard(folder / "s2.safetensors", {"b"});
    folder.write(
        "model.safetensors.index.json",
        R"({"weight_map":{"a":"s2.safetensors","x":"s1.safetensors","y":"s3.safetensors"}})");
    const std::string error = error_of([&] { Checkpoint c(ModelFolder::open(folder.path())); });
    for (const char* part :
         {"b occurs twice", "s3.safetensors is missing", "a lies in s1.safetensors", "x is not in"})
        EXPECT_NE(error.find(part), error.npos) << error;
}

TEST(Checkpoint, HostileIndexesAndOtherFormats) {
    const TemporaryFolder folder;
    for (const char* index : {"{}", "[]", R"({"weight_map":[]})", R"({"weight_map":{"a":1}})",
                              R"({"weight_map":{"a":"../x"}})"}) {
        folder.write("model.safetensors.index.json", index);
        EXPECT_THROW(Checkpoint c(ModelFolder::open(folder.path())), Error) << index;
    }
    fs::remove(folder / "model.safetensors.index.json");
    folder.write("pytorch_model.bin", "x");
    EXPECT_NE(error_of([&] { Checkpoint c(ModelFolder::open(folder.path())); }).find("pickled"),
              std::string::npos);
}

TEST(ModelFolder, TheBuiltInModelIsTheFixture) {
    const ModelFolder demo = ModelFolder::builtin("demo"),
                      disk = ModelFolder::open(golden("checkpoints/tiny-1b"));
    EXPECT_GE(demo.list().size(), 7u);
    for (const std::string& file : demo.list()) EXPECT_EQ(demo.read(file), disk.read(file)) << file;
    EXPECT_FALSE(demo.has("nothing"));
    EXPECT_THROW(ModelFolder::builtin("other"), Error);
    EXPECT_THROW(ModelFolder::open("/no/such/folder"), Error);
    EXPECT_THROW(ModelFolder::open(golden("checkpoints/tiny-1b/config.json")), Error);
    EXPECT_THROW(MappedFile::open(golden("checkpoints")), Error);
}

// The Hugging Face cache as `hf download` lays it out: files in blobs, symbolic links in snapshots.
TEST(Hub, FindsWhatIsInTheCache) {
    const TemporaryFolder folder;
    const std::string root = folder / "models--Org--Name";
    fs::create_directories(root + "/blobs");
    fs::create_directories(root + "/refs");
    fs::create_directories(root + "/snapshots/abc");
    std::ofstream(root + "/blobs/123") << "{}";
    fs::create_symlink("../../blobs/123", root + "/snapshots/abc/config.json");
    std::ofstream(root + "/refs/main") << "abc\n";
    setenv("HF_HUB_CACHE", folder.path().c_str(), 1);
    EXPECT_EQ(resolve_model("Org/Name").read("config.json"), "{}");
    EXPECT_NE(error_of([] { resolve_model("Org/Other"); }).find("internvl pull Org/Other"),
              std::string::npos);
    fs::remove(root + "/refs/main");
    EXPECT_EQ(cached_snapshot("Org/Name"), root + "/snapshots/abc");  // the only one
    fs::create_directories(root + "/snapshots/def");
    EXPECT_THROW(cached_snapshot("Org/Name"), Error);
    unsetenv("HF_HUB_CACHE");
    setenv("HF_HOME", (folder / "home").c_str(), 1);
    EXPECT_EQ(cached_snapshot("Org/Name"), "");
    unsetenv("HF_HOME");
    EXPECT_EQ(resolve_model("demo").where(), "built-in demo");
    EXPECT_THROW(resolve_model("no such thing"), Error);
    EXPECT_THROW(resolve_model("../x"), Error);
    unsetenv("INTERNVL_MODEL");
    EXPECT_THROW(resolve_model(""), UsageError);
    setenv("INTERNVL_MODEL", "demo", 1);
    EXPECT_EQ(resolve_model("").where(), "built-in demo");
    unsetenv("INTERNVL_MODEL");
}

}  // namespace internvl
