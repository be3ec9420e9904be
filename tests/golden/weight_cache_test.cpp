// Weights that another run packed are those that would be packed now, or are packed anew.
#include "reference.h"

namespace internvl {

namespace {

struct Heard {
    std::vector<int> ids;
    std::vector<std::vector<float>> logits;
    bool operator==(const Heard&) const = default;
};

// A picture and a question, all that the model's weights take part in.
Heard answer(Engine& e) {
    Heard heard;
    Generation g;
    g.pictures = e.encode(tiles_of("rgb_1tile.png", 1));
    g.prompt.assign(256, e.context_token());
    for (int i = 0; i < 20; ++i) g.prompt.push_back(100 + i);
    g.options.max_new_tokens = 12;
    g.options.ignore_eos = true;
    g.on_logits = [&](std::span<const float> l) { heard.logits.emplace_back(l.begin(), l.end()); };
    heard.ids = e.generate(g).ids;
    return heard;
}

class Weights : public testing::Test {
  protected:
    // Loads with the cache and compares with a load without; whether the weights were there.
    bool packed_before(const std::string& model, const LoadOptions& options) {
        LoadOptions cached = options;
        cached.weight_cache_folder = cache();
        Engine engine(ModelFolder::open(model), cached), plain(ModelFolder::open(model), options);
        EXPECT_FALSE(plain.packed_before());
        EXPECT_EQ(answer(engine), answer(plain));
        return engine.packed_before();
    }
    std::string cache() const { return folder / "cache"; }
    std::vector<std::string> files() const {
        std::vector<std::string> paths;
        for (const auto& e : std::filesystem::directory_iterator(cache()))
            paths.push_back(e.path().string());
        return paths;
    }
    std::string copy_of(const std::string& model) {
        const std::string to = folder / "model";
        std::filesystem::copy(golden("checkpoints/" + model), to);
        return to;
    }
    // Another value at a place of the file where nobody looks when it names the weights.
    static void change(const std::string& file) {
        const auto time = std::filesystem::last_write_time(file);
        std::string text = read_text(file);
        text[text.size() * 3 / 5] = char(text[text.size() * 3 / 5] ^ 0x41);
        std::ofstream(file, std::ios::binary) << text;
        std::filesystem::last_write_time(file, time + std::chrono::nanoseconds(1));
    }
    TemporaryFolder folder;
};

}  // namespace

TEST_F(Weights, OfEveryKindAreThoseOfAnotherRun) {
    const LoadOptions kinds[] = {
        {.threads = 2, .dtype = "bf16"},
        {.threads = 2, .dtype = "fp32"},
        {.threads = 2, .dtype = "fp16"},
        {.threads = 2, .dtype = "bf16", .quant = "int8"},
        {.threads = 2, .dtype = "bf16", .quant = "int4"},
        {.threads = 2, .dtype = "bf16", .quant = "int8", .llm_int8_skip = "head"},
        {.threads = 2, .dtype = "bf16", .quant = "int8", .quant_vision = "none"}};
    for (const LoadOptions& options : kinds) {
        SCOPED_TRACE(options.dtype + " " + options.quant);
        for (const bool before : {false, true})
            EXPECT_EQ(packed_before(golden("checkpoints/tiny-1b"), options), before);
    }
    EXPECT_EQ(files().size(), std::size(kinds));
}

// Shards, the ways to lay out attention, norms of queries; adapters to be merged, codes as filed.
TEST_F(Weights, OfEveryModel) {
    const std::pair<std::string, std::string> models[] = {
        {"checkpoints/tiny-2b", "checkpoints/tiny-2b"},
        {"checkpoints/tiny-4b", "checkpoints/tiny-4b"},
        {"checkpoints/tiny-26b", "checkpoints/tiny-26b"},
        {"awq/tiny-2b", "checkpoints/tiny-2b"},
        {"lora/tiny-1b/repository_style", "checkpoints/tiny-1b"}};
    for (const auto& [weights, tokenizer] : models) {
        SCOPED_TRACE(weights);
        const std::string model = folder / weights;
        std::filesystem::create_directories(model);
        std::filesystem::copy(golden(weights), model);
        for (const auto& e : std::filesystem::directory_iterator(golden(tokenizer)))
            if (const std::string name = e.path().filename(); !name.starts_with("model"))
                std::filesystem::copy(e.path(), model,
                                      std::filesystem::copy_options::skip_existing);
        for (const bool before : {false, true})
            EXPECT_EQ(packed_before(model, {.threads = 1, .dtype = "bf16"}), before);
    }
}

TEST_F(Weights, ThatAreDamagedArePackedAnew) {
    const std::string model = golden("checkpoints/tiny-1b");
    const LoadOptions options = {.threads = 2, .dtype = "bf16"};
    EXPECT_FALSE(packed_before(model, options));
    const std::string path = files().at(0), whole = read_text(path);
    const auto flipped = [&](size_t at) {
        std::string text = whole;
        text[at] = char(text[at] ^ 16);
        return text;
    };
    for (const std::string& text :
         {std::string(), std::string("x"), whole.substr(0, whole.size() / 2),
          whole.substr(0, whole.size() - 1), whole + "x", flipped(0), flipped(7), flipped(9),
          flipped(20), flipped(60), flipped(120), flipped(whole.size() / 2),
          flipped(whole.size() - 40), flipped(whole.size() - 1)}) {
        std::ofstream(path, std::ios::binary) << text;
        EXPECT_FALSE(packed_before(model, options));
        EXPECT_EQ(read_text(path), whole);  // replaced, and the same again
        EXPECT_TRUE(packed_before(model, options));
    }
    EXPECT_EQ(files().size(), 1u);
}

// A file that is whole, of the same weights, but not what this program would have written.
TEST_F(Weights, OfAnotherPlanArePackedAnew) {
    const std::string model = golden("checkpoints/tiny-1b");
    const LoadOptions options = {.threads = 2, .dtype = "bf16"};
    EXPECT_FALSE(packed_before(model, options));
    const std::string path = files().at(0), whole = read_text(path);
    SealedHead head;
    std::memcpy(&head, whole.data(), sizeof head);
    for (const bool shorter : {false, true}) {
        SealedHead other = head;
        if (shorter)
            other.bytes = head.bytes / 2 / 64 * 64;
        else
            other.plan[3] ^= 1;
        const std::shared_ptr<char[]> image(new char[size_t(other.bytes)]);
        std::memcpy(image.get(), whole.data(), size_t(other.bytes));
        SealedWriter(path, other, {image, image.get()});
        EXPECT_FALSE(packed_before(model, options));
        EXPECT_EQ(read_text(path), whole);
    }
}

TEST_F(Weights, OfACheckpointThatWasChangedArePackedAnew) {
    const std::string model = copy_of("tiny-1b"), file = model + "/model.safetensors";
    for (const std::string quant : {"none", "int8", "int4"}) {
        const LoadOptions options = {.threads = 2, .dtype = "bf16", .quant = quant};
        EXPECT_FALSE(packed_before(model, options));
        EXPECT_TRUE(packed_before(model, options));
        change(file);
        EXPECT_FALSE(packed_before(model, options));
        EXPECT_TRUE(packed_before(model, options));
    }
    EXPECT_EQ(files().size(), 3u);  // the old ones are gone
}

TEST_F(Weights, TellHowFarTheyArePacked) {
    std::vector<double> shares;
    LoadOptions options = {.threads = 2, .weight_cache_folder = cache()};
    options.on_load = [&](double share) { shares.push_back(share); };
    Engine(ModelFolder::open(golden("checkpoints/tiny-1b")), options);
    ASSERT_GT(shares.size(), 10u);
    EXPECT_TRUE(std::ranges::is_sorted(shares));
    EXPECT_GT(shares.back(), 0.5);  // the table of embeddings is not packed
    EXPECT_LE(shares.back(), 1);
    const size_t once = shares.size();
    Engine(ModelFolder::open(golden("checkpoints/tiny-1b")), options);
    EXPECT_EQ(shares.size(), once);
}

TEST_F(Weights, ThatCannotBeKeptAreDoneWithout) {
    folder.write("cache", "not a folder");
    testing::internal::CaptureStderr();
    EXPECT_FALSE(packed_before(golden("checkpoints/tiny-1b"), {.threads = 2, .dtype = "bf16"}));
    const std::string said = testing::internal::GetCapturedStderr();
    EXPECT_EQ(std::ranges::count(said, '\n'), 1) << said;
}

// As long as two engines live together, each is the other's equal; the last to write wins.
TEST_F(Weights, OfSeveralAtOnce) {
    const std::string model = golden("checkpoints/tiny-1b");
    const LoadOptions options = {
        .threads = 1, .dtype = "bf16", .quant = "int8", .weight_cache_folder = cache()};
    Engine plain(ModelFolder::open(model), {.threads = 1, .dtype = "bf16", .quant = "int8"});
    const Heard expected = answer(plain);
    std::vector<std::thread> users;
    for (int i = 0; i < 4; ++i)
        users.emplace_back([&] {
            for (int turn = 0; turn < 3; ++turn) {
                Engine engine(ModelFolder::open(model), options);
                EXPECT_EQ(answer(engine), expected);
            }
        });
    for (std::thread& user : users) user.join();
    EXPECT_TRUE(Engine(ModelFolder::open(model), options).packed_before());
    EXPECT_EQ(files().size(), 1u);
}

}  // namespace internvl
