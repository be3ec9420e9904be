#include "model/members.h"

#include <map>

#include "base/error.h"
#include "model/synth.h"
#include "model/synth_tokenizer.h"
#include "model/tensors.h"
#include "support.h"

namespace internvl {

TEST(Members, HaveTheParametersOfTheReleasedModels) {
    struct Row {
        const char* name;
        int64_t vision, projector, language, total;
    };
    const Row rows[] = {
        {"internvl2-1b", 304'012'288, 4'482'816, 629'663'872, 938'158'976},
        {"internvl2-2b", 304'012'288, 12'595'200, 1'889'146'880, 2'205'754'368},
        {"internvl2-4b", 304'012'288, 22'034'432, 3'820'809'216, 4'146'855'936},
        {"internvl2-8b", 304'012'288, 33'570'816, 7'737'782'272, 8'075'365'376},
        {"internvl2-26b", 5'536'496'000, 116'429'824, 19'861'260'288, 25'514'186'112},
        {"internvl2-40b", 5'536'496'000, 143'170'560, 34'389'017'600, 40'068'684'160},
        {"internvl2-llama3-76b", 5'536'496'000, 172'008'448, 70'553'853'952, 76'262'358'400},
    };
    ASSERT_EQ(members().size(), std::size(rows));
    for (const Row& row : rows) {
        const Member* member = find_member(row.name);
        ASSERT_NE(member, nullptr) << row.name;
        const ParameterCount n = count_parameters(member->parsed());
        EXPECT_EQ(n.vision, row.vision) << row.name;
        EXPECT_EQ(n.projector, row.projector) << row.name;
        EXPECT_EQ(n.language, row.language) << row.name;
        EXPECT_EQ(n.total, row.total) << row.name;
    }
}

TEST(Members, AreFoundUnderTheNamesThatPeopleType) {
    EXPECT_EQ(find_member("OpenGVLab/InternVL2-8B"), find_member("internvl2-8b"));
    EXPECT_EQ(find_member("internvl2-76b"), find_member("InternVL2-Llama3-76B"));
    EXPECT_EQ(find_member("internvl2-3b"), nullptr);
    EXPECT_EQ(find_member(""), nullptr);
}

// Ids end where the model's rows end, and every token that prompts are made of has one.
TEST(Members, HaveTokenizersOfTheRightLength) {
    const std::map<std::string, int> context_ids = {
        {"internvl2-1b", 151648},        {"internvl2-2b", 92546},  {"internvl2-4b", 32013},
        {"internvl2-8b", 92546},         {"internvl2-26b", 92546}, {"internvl2-40b", 64000},
        {"internvl2-llama3-76b", 128258}};
    for (const Member& member : members()) {
        std::map<std::string, int> ids;
        int last = -1;
        for (const MemberToken& token : member.tokenizer.tokens) {
            EXPECT_TRUE(ids.emplace(token.text, token.id).second) << token.text;
            EXPECT_GT(token.id, last) << member.name << ' ' << token.text;
            last = token.id;
        }
        EXPECT_EQ(last + 1, member.parsed().text.vocab) << member.name;
        EXPECT_EQ(ids["<IMG_CONTEXT>"], context_ids.at(member.name));
        EXPECT_EQ(ids["</box>"], last);
        const auto& language = member.config["llm_config"];
        EXPECT_LT(language["eos_token_id"], last);
    }
    EXPECT_EQ(find_member("internvl2-40b")->tokenizer.tokens[6].id, 68);  // <img>, a piece of Yi's
}

// Numbers that are single precision in the model may be written out differently.
static bool same_value(const nlohmann::json& a, const nlohmann::json& b) {
    if (a.is_number() && b.is_number()) return a.get<float>() == b.get<float>();
    if (!a.is_array() || !b.is_array() || a.size() != b.size()) return a == b;
    for (size_t i = 0; i < a.size(); ++i)
        if (!same_value(a[i], b[i])) return false;
    return true;
}

// Every field that we write, as the released file has it.
static void expect_fields(const nlohmann::json& ours, const nlohmann::json& theirs,
                          const std::vector<std::string>& edited, const std::string& at) {
    for (const auto& [name, value] : ours.items()) {
        if (std::ranges::find(edited, name) != edited.end()) continue;
        ASSERT_TRUE(theirs.contains(name)) << at << name;
        if (value.is_object())
            expect_fields(value, theirs[name], edited, at + name + ".");
        else
            EXPECT_TRUE(same_value(value, theirs[name]))
                << at << name << " is " << theirs[name] << " there, " << value << " here";
    }
}

TEST(Members, AreDescribedAsInTheReleasedFolders) {
    REQUIRE_OUTSIDE("data/configs/internvl2-4b/config.json");
    const std::map<std::string, std::vector<std::string>> edited_by_the_copier = {
        {"1b", {"use_flash_attn"}},
        {"2b", {}},
        {"4b", {"max_position_embeddings", "original_max_position_embeddings"}}};
    for (const auto& [size, edited] : edited_by_the_copier) {
        const std::string name = "internvl2-" + size;
        const auto theirs = read_json(outside("data/configs/" + name + "/config.json"));
        expect_fields(find_member(name)->config, theirs, edited, name + ": ");
        const ModelConfig parsed = parse_config(theirs.dump(), name);
        EXPECT_EQ(count_parameters(parsed).total,
                  count_parameters(find_member(name)->parsed()).total);
    }
}

TEST(Synth, TokenizerFilesAreThoseOfTheKind) {
    for (const Member& member : members()) {
        const auto files = tokenizer_files(member.tokenizer);
        const auto config = nlohmann::json::parse(files.at("tokenizer_config.json"));
        EXPECT_EQ(config["added_tokens_decoder"].size(), member.tokenizer.tokens.size());
        using Files = MemberTokenizer::Files;
        EXPECT_EQ(files.contains("vocab.json"), member.tokenizer.files == Files::qwen2);
        EXPECT_EQ(files.contains("tokenizer.json"), member.tokenizer.files == Files::json);
        EXPECT_EQ(files.contains("tokenizer.model"),
                  member.tokenizer.files == Files::sentencepiece);
    }
    const auto phi3 = tokenizer_files(find_member("internvl2-4b")->tokenizer);
    const auto flags =
        nlohmann::json::parse(phi3.at("tokenizer_config.json"))["added_tokens_decoder"];
    EXPECT_EQ(flags["32007"]["content"], "<|end|>");
    EXPECT_EQ(flags["32007"]["rstrip"], true);
    EXPECT_EQ(flags["2"]["special"], false);
}

// A thin folder says so in its config.json; nothing is begun that the disk cannot hold.
TEST(Synth, ThinFoldersHoldTheirTensors) {
    const TemporaryFolder folder;
    SynthOptions options{.like = "internvl2-8b", .out = folder / "a", .weights = false};
    options.layers = 2, options.vision_layers = 1;
    const int64_t parameters = synthesise(options);
    const ModelConfig config = parse_config(read_text(folder / "a/config.json"), "a");
    EXPECT_EQ(config.text.layers, 2);
    EXPECT_EQ(config.vision.layers, 1);
    EXPECT_EQ(count_parameters(config).total, parameters);
    EXPECT_FALSE(std::filesystem::exists(folder / "a/model.safetensors"));
    options.layers = 1000;  // 437 GB
    options.vision_layers = 1000;
    options.weights = true;
    if (std::filesystem::space(folder.path()).available > 450'000'000'000)
        GTEST_SKIP() << "this disk has room for 437 GB";
    try {
        synthesise(options);
        FAIL();
    } catch (const Error& e) {
        EXPECT_NE(std::string(e.what()).find("the disk has no room"), std::string::npos);
        EXPECT_FALSE(std::filesystem::exists(folder / "a/model.safetensors"));
    }
}

}  // namespace internvl
