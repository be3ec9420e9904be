// synth, inspect and plan for every member of the family.
#include <filesystem>
#include <map>

#include "program.h"

namespace internvl {

namespace fs = std::filesystem;

static const std::map<std::string, int64_t> parameters_of = {
    {"internvl2-1b", 938'158'976},           {"internvl2-2b", 2'205'754'368},
    {"internvl2-4b", 4'146'855'936},         {"internvl2-8b", 8'075'365'376},
    {"internvl2-26b", 25'514'186'112},       {"internvl2-40b", 40'068'684'160},
    {"internvl2-llama3-76b", 76'262'358'400}};

static nlohmann::json inspected(const std::string& folder) {
    const Outcome o = run_program({"inspect", folder, "--json"});
    EXPECT_EQ(o.status, 0) << o.out << o.err;
    return json_lines(o.out)[0];
}

TEST(Synth, FoldersOfEveryMemberAreInOrder) {
    for (const auto& [name, parameters] : parameters_of) {
        SCOPED_TRACE(name);
        const TemporaryFolder folder;
        const Outcome made =
            run_program({"synth", "--like", name, "--out", folder / "m", "--no-weights"});
        ASSERT_EQ(made.status, 0) << made.err;
        const auto found = inspected(folder / "m");
        EXPECT_EQ(found["problems"], nlohmann::json::array());
        EXPECT_EQ(found["parameters"]["total"], parameters);
        EXPECT_EQ(found["layout"], "released");
        EXPECT_TRUE(found["special_ids"].contains("<IMG_CONTEXT>"));
        // Every byte survives.
        const std::string text = "Grüße, 你好\t 1  2";
        const Outcome ids =
            run_program({"tokenize", folder / "m", "--compat", "none", "--text", text});
        const Outcome back =
            run_program({"tokenize", folder / "m", "--decode"},
                        "printf '" + ids.out.substr(0, ids.out.size() - 1) + "' |");
        EXPECT_NE(back.out.find(text), std::string::npos) << ids.out << back.out << back.err;
    }
}

// A thin one with weights in several files, which the program can run.
TEST(Synth, ThinModelRuns) {
    const TemporaryFolder folder;
    const std::string model = folder / "m";
    const Outcome made = run_program({"synth", "--like", "internvl2-4b", "--out", model, "--layers",
                                      "1", "--vision-layers", "1", "--max-shard-size", "300M"});
    ASSERT_EQ(made.status, 0) << made.err;
    const auto found = inspected(model);
    EXPECT_EQ(found["problems"], nlohmann::json::array());
    EXPECT_EQ(found["files"]["bytes"], 2 * found["parameters"]["total"].get<int64_t>());
    EXPECT_GT(found["files"]["weights"].size(), 1u);
    EXPECT_TRUE(fs::exists(model + "/model.safetensors.index.json"));
    const Outcome o = run_program({"chat", model, "-i", golden("media/gray.png"), "--max-num", "1",
                                   "-p", "hi", "--json", "--max-new-tokens", "2"});
    EXPECT_EQ(o.status, 0) << o.err;
}

TEST(Inspect, ShowsLayoutRopeAndAdapters) {
    const auto phi3 = inspected(golden("checkpoints/tiny-4b"));
    EXPECT_EQ(phi3["rope_scaling"]["type"], "longrope");
    EXPECT_EQ(phi3["rope_scaling"]["short_up_to"], 512);
    EXPECT_EQ(phi3["adapters"], 0);
    EXPECT_EQ(phi3["files"]["all"], 8);
    EXPECT_GT(phi3["files"]["all_bytes"], phi3["files"]["bytes"]);
    EXPECT_EQ(inspected(golden("checkpoints/tiny-2b"))["rope_scaling"]["factor"], 2.0);
    const auto adapted = json_lines(
        run_program({"inspect", golden("lora/tiny-2b/repository_style"), "--json"}).out)[0];
    EXPECT_GT(adapted["adapters"], 0);
}

static nlohmann::json planned(std::vector<std::string> args) {
    args.insert(args.begin(), "plan");
    args.push_back("--json");
    const Outcome o = run_program(args);
    EXPECT_EQ(o.status, 0) << o.err;
    return json_lines(o.out)[0];
}

TEST(Plan, NeedsNoFolder) {
    for (const auto& [name, parameters] : parameters_of)
        EXPECT_EQ(planned({name, "--no-measure"})["parameters"], parameters) << name;
    const auto p = planned({"InternVL2-76B", "--no-measure", "--gpus", "8"});
    EXPECT_EQ(p["memory"]["bf16"]["fits"].get<bool>(),
              p["memory"]["bf16"]["total"] <= p["machine"]["available"]);
    EXPECT_FALSE(p.contains("seconds"));
    std::vector<int> layers;
    for (const auto& gpu : p["gpus"]) layers.push_back(gpu["layers"]);
    EXPECT_EQ(layers, (std::vector<int>{7, 11, 11, 11, 11, 11, 11, 7}));
}

TEST(Plan, CountsTokensAndMemory) {
    const auto p = planned({"internvl2-2b", "--no-measure", "--image", "1920x1080", "--image",
                            "448x448", "--video", "8", "--users", "3", "--context", "8000"});
    const auto& t = p["tokens"];
    EXPECT_EQ(t["pictures"][0]["grid"], (std::vector<int>{4, 2}));
    EXPECT_EQ(t["pictures"][0]["tokens"], 9 * 256);
    EXPECT_EQ(t["pictures"][1]["tiles"], 1);
    EXPECT_EQ(t["video"]["tokens"], 8 * 256);
    EXPECT_EQ(t["tiles"], 18);
    EXPECT_EQ(t["prompt"], 64 + 18 * 256 + 10 * 8);
    const auto& bf16 = p["memory"]["bf16"];
    EXPECT_EQ(bf16["cache"], int64_t(3) * 8000 * 98'304);
    EXPECT_EQ(bf16["total"].get<int64_t>(), bf16["weights"].get<int64_t>() +
                                                bf16["cache"].get<int64_t>() +
                                                bf16["activations"].get<int64_t>());
    EXPECT_EQ(p["memory"]["fp32"]["cache"], 2 * bf16["cache"].get<int64_t>());
    EXPECT_LT(p["memory"]["int4"]["weights"], p["memory"]["int8"]["weights"]);
    const auto fewer =
        planned({"internvl2-2b", "--no-measure", "--image", "1920x1080", "--max-num", "6"});
    EXPECT_EQ(fewer["tokens"]["tiles"], 3);
    EXPECT_EQ(fewer["tokens"]["context"], fewer["tokens"]["prompt"].get<int>() + 1024);
}

TEST(Plan, EstimatesTimeFromThisMachine) {
    const auto p = planned({"demo", "--image", "896x448", "--users", "2"});
    const auto& s = p["seconds"];
    EXPECT_GT(p["machine"]["peak_gflops"], 0);
    EXPECT_NEAR(s["vision"].get<double>(),
                p["gflop"]["vision"].get<double>() / p["machine"]["peak_gflops"].get<double>() /
                    p["machine"]["assumed_of_peak"].get<double>(),
                1e-9);
    EXPECT_NEAR(s["first_token_of_last_user"].get<double>(), 2 * s["first_token"].get<double>(),
                1e-9);
    EXPECT_GE(s["tokens_per_s_all_users"], s["tokens_per_s"]);
    const Outcome text = run_program({"plan", "demo", "--no-measure", "--image", "896x448"});
    EXPECT_NE(text.out.find("grid 2 x 1, 3 tiles, 768 tokens"), std::string::npos) << text.out;
}

TEST(Plan, Mistakes) {
    const auto expect_failure = [](std::vector<std::string> args, int status, const char* says) {
        args.insert(args.begin(), "plan");
        const Outcome o = run_program(args);
        EXPECT_EQ(o.status, status) << o.err;
        EXPECT_TRUE(o.one_line_error()) << o.err;
        EXPECT_NE(o.err.find(says), std::string::npos) << o.err;
    };
    expect_failure({"internvl2-3b"}, 1, "internvl2-llama3-76b");
    expect_failure({"/no/such/folder"}, 1, "no such model");
    for (const char* size : {"0x448", "448", "x", "448x", "12x34x5", "448x-1", "1e3x448", " 4x4",
                             "200000x1", "90000x90000", "99999999999x2"})
        expect_failure({"internvl2-1b", "--image", size}, 2, "WIDTHxHEIGHT");
    expect_failure({"internvl2-40b", "--context", "5000"}, 2, "from 1 to 4096");
    expect_failure({"internvl2-1b", "--users", "0"}, 2, "--users");
    expect_failure({"internvl2-1b", "--max-num", "0"}, 2, "--max-num");
    const auto full = planned({"internvl2-40b", "--no-measure", "--video", "16"});
    EXPECT_NE(full["problems"].dump().find("does not fit the context of 4096"), std::string::npos);
}

}  // namespace internvl
