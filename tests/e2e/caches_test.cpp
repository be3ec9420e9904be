// What a second question, and a second run, need not compute.
#include "program.h"

namespace internvl {

static int cached(const nlohmann::json& line) {
    return line["usage"]["prompt_tokens_details"]["cached_tokens"];
}

static std::vector<nlohmann::json> talk(const std::string& rounds,
                                        const std::vector<std::string>& more) {
    std::vector<std::string> args = {
        "chat", golden("checkpoints/tiny-2b"), "--rounds", rounds, "--json", "--max-new-tokens",
        "8"};
    args.insert(args.end(), more.begin(), more.end());
    const Outcome o = run_program(args);
    EXPECT_EQ(o.status, 0) << o.err;
    EXPECT_EQ(o.err, "");
    return json_lines(o.out);
}

TEST(Caches, OfAConversation) {
    const TemporaryFolder folder;
    const nlohmann::json play = {{"questions", {"What?", "Where?", "Why?"}},
                                 {"images", {{{"file", golden("media/rgb_3tiles.png")}}}}};
    const std::string rounds = folder.write("play.json", play.dump());
    const auto warm = talk(rounds, {});
    const auto cold = talk(rounds, {"--vision-cache-mb", "0", "--prefix-cache-mb", "0"});
    ASSERT_EQ(warm.size(), 3u);
    for (size_t i = 0; i < 3; ++i) {
        EXPECT_EQ(warm[i]["ids"], cold[i]["ids"]);
        EXPECT_EQ(warm[i]["text"], cold[i]["text"]);
        EXPECT_EQ(warm[i]["usage"]["computed_tiles"], i == 0 ? 3 : 0);
        EXPECT_EQ(cached(cold[i]), 0);
        const int before = i == 0 ? 0 : int(warm[i - 1]["prompt_ids"].size());
        EXPECT_GE(cached(warm[i]), before / 16 * 16 - (i > 0 ? 16 : 0));
        EXPECT_EQ(cached(warm[i]) % 16, 0);
    }
    for (const auto& line : talk(rounds, {"--compat", "reference"})) EXPECT_EQ(cached(line), 0);
}

TEST(Caches, OnTheDisk) {
    const TemporaryFolder folder;
    const nlohmann::json play = {{"questions", {"What?"}},
                                 {"images", {{{"file", golden("media/rgb_3tiles.png")}}}}};
    const std::string rounds = folder.write("play.json", play.dump()), rows = folder / "a/b";
    const auto first = talk(rounds, {"--vision-cache", rows});
    const auto second = talk(rounds, {"--vision-cache", rows, "--vision-cache-mb", "0"});
    EXPECT_EQ(first[0]["usage"]["computed_tiles"], 3);
    EXPECT_EQ(second[0]["usage"]["computed_tiles"], 0);
    EXPECT_EQ(second[0]["ids"], first[0]["ids"]);
    // A folder that is none, a disk that is full: one warning, the same answer.
    const std::pair<std::string, std::string> bad[] = {{rounds, ""},
                                                       {folder / "b", "ulimit -f 60;"}};
    for (const auto& [where, limit] : bad) {
        const Outcome o = run_program({"chat", golden("checkpoints/tiny-2b"), "--rounds", rounds,
                                       "--json", "--max-new-tokens", "8", "--vision-cache", where},
                                      limit);
        EXPECT_EQ(o.status, 0);
        EXPECT_EQ(std::ranges::count(o.err, '\n'), 1) << o.err;
        EXPECT_EQ(json_lines(o.out)[0]["ids"], first[0]["ids"]);
    }
    EXPECT_TRUE(std::filesystem::is_empty(folder / "b"));
}

TEST(Caches, OfPackedWeights) {
    const TemporaryFolder folder;
    const auto ask = [&](const std::string& quant, const std::string& where,
                         const std::string& prefix = "") {
        return run_program({"chat", "demo", "-p", "Hi", "--json", "--max-new-tokens", "8",
                            "--quant", quant, "--weight-cache", where},
                           prefix);
    };
    const auto ids = [](const Outcome& o) { return json_lines(o.out).at(0)["ids"]; };
    for (const std::string quant : {"none", "int8", "int4"}) {
        const Outcome plain = run_program(
            {"chat", "demo", "-p", "Hi", "--json", "--max-new-tokens", "8", "--quant", quant});
        for (int run = 0; run < 2; ++run) {
            const Outcome o = ask(quant, folder / "a/b");
            EXPECT_EQ(o.status, 0) << o.err;
            EXPECT_EQ(o.err, "");
            EXPECT_EQ(ids(o), ids(plain));
        }
        // A folder that is none, a disk that is full: one warning, the same answer.
        const std::pair<std::string, std::string> bad[] = {{folder.write("file", "x"), ""},
                                                           {folder / "full", "ulimit -f 60;"}};
        for (const auto& [where, limit] : bad) {
            const Outcome o = ask(quant, where, limit);
            EXPECT_EQ(o.status, 0);
            EXPECT_EQ(std::ranges::count(o.err, '\n'), 1) << o.err;
            EXPECT_EQ(ids(o), ids(plain));
        }
        EXPECT_TRUE(std::filesystem::is_empty(folder / "full"));
    }
    EXPECT_EQ(std::distance(std::filesystem::directory_iterator(folder / "a/b"), {}), 3);
    const Outcome bench =
        run_program({"bench", "demo", "--json", "--weight-cache", folder / "a/b", "--context", "8",
                     "--tokens", "2", "--prompt-tokens", "8", "--tiles", "1", "--repeat", "1"});
    EXPECT_NE(bench.out.find("\"packed_before\":true"), std::string::npos) << bench.out;
}

// Processes that begin together: nobody is disturbed, one file is left.
TEST(Caches, OfPackedWeightsForTwo) {
    const TemporaryFolder folder;
    const std::string where = folder / "w", one = folder / "1", two = folder / "2";
    const std::string other = quoted(program_path()) +
                              " chat demo -p Hi --json --max-new-tokens 8 --weight-cache " +
                              quoted(where);
    const Outcome o = run_program(
        {"chat", "demo", "-p", "Hi", "--json", "--max-new-tokens", "8", "--weight-cache", where},
        other + " > " + quoted(one) + " 2>&1 & " + other + " > " + quoted(two) +
            " 2>&1 & trap wait EXIT;");
    EXPECT_EQ(o.status, 0);
    EXPECT_EQ(o.err, "");
    for (const std::string& file : {one, two})
        EXPECT_EQ(json_lines(read_text(file)).at(0)["ids"], json_lines(o.out).at(0)["ids"]);
    EXPECT_EQ(std::distance(std::filesystem::directory_iterator(where), {}), 1);
}

}  // namespace internvl
