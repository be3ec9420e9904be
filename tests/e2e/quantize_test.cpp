// The verb quantize: folder, receipt, and what is refused.
#include <filesystem>

#include "program.h"

namespace internvl {

namespace fs = std::filesystem;

TEST(Quantize, WritesAFolderAndItsReceipt) {
    const TemporaryFolder folder;
    const std::string out = folder / "out";
    const Outcome o = run_program({"quantize", "demo", out, "--quant", "int4", "--dtype", "fp32"});
    EXPECT_EQ(o.status, 0) << o.err;
    for (const char* part : {"int4, groups of", "text/after_layer2", "nats a token"})
        EXPECT_NE(o.out.find(part), std::string::npos) << o.out;
    const auto receipt = read_json(out + "/receipt.json");
    EXPECT_EQ(receipt["weights"].size(), 36u);
    EXPECT_LT(receipt["bytes"]["after"], receipt["bytes"]["before"]);
    const auto& sample = receipt["sample"];
    EXPECT_EQ(sample["layers"].size(), 7u);
    EXPECT_GT(sample["tokens"], 32);
    EXPECT_LE(sample["same_choice"], sample["tokens"]);
    EXPECT_GT(sample["kl_nats_per_token"], 0.0);
    const auto chat = [](std::vector<std::string> args) {
        args.insert(args.begin(), "chat");
        args.insert(args.end(), {"-p", "hi", "--json", "--max-new-tokens", "8", "--dtype", "fp32"});
        return json_lines(run_program(args).out)[0]["ids"];
    };
    EXPECT_EQ(chat({out}), chat({"demo", "--quant", "int4"}));
    const auto seen = json_lines(run_program({"inspect", "--json", out}).out)[0];
    EXPECT_EQ(seen["quantisation"]["method"], "internvl");
    EXPECT_EQ(seen["problems"].size(), 0u);
}

TEST(Quantize, TakesASampleOfRequests) {
    const TemporaryFolder folder;
    const std::string sample = folder.write(
        "sample.jsonl",
        R"({"body":{"model":"m","messages":[{"role":"user","content":"Hello, who are you?"}]}})");
    const Outcome o = run_program({"quantize", "demo", folder / "out", "--sample", sample,
                                   "--quant", "none", "--quant-head", "int8"});
    EXPECT_EQ(o.status, 0) << o.err;
    const auto receipt = read_json(folder / "out/receipt.json");
    EXPECT_EQ(receipt["sample"]["requests"], 1);
    EXPECT_EQ(receipt["weights"].size(), 1u);
    folder.write("sample.jsonl", "{}");
    const Outcome bad = run_program({"quantize", "demo", folder / "bad", "--sample", sample});
    EXPECT_EQ(bad.status, 1);
    EXPECT_TRUE(bad.one_line_error()) << bad.err;
    EXPECT_FALSE(fs::exists(folder / "bad"));
}

TEST(Quantize, ReferenceInt8IsTheOriginals) {
    const auto chat = [](std::vector<std::string> args) {
        args.insert(args.begin(),
                    {"chat", "demo", "-p", "Hello", "--dtype", "fp32", "--quant", "int8"});
        return run_program(args);
    };
    EXPECT_EQ(chat({"--compat", "reference"}).status, 0);
    EXPECT_EQ(chat({"--compat", "reference", "--int8-skip", "mlp1.3"}).status, 0);
    EXPECT_EQ(chat({"--compat", "reference", "--int8-skip", "all"}).status, 2);
    EXPECT_EQ(chat({"--int8-skip", "head"}).status, 2);
    // What trace writes, verify finds again; our own int8 is another one.
    const TemporaryFolder folder;
    const std::string stages = folder / "stages.safetensors";
    const std::vector<std::string> load = {"--quant", "int8", "--dtype", "fp32"};
    std::vector<std::string> trace = {"trace", "demo", "-p",       "Hello",
                                      "--out", stages, "--compat", "reference"},
                             verify = {"verify", "demo", stages};
    trace.insert(trace.end(), load.begin(), load.end());
    verify.insert(verify.end(), load.begin(), load.end());
    EXPECT_EQ(run_program(trace).status, 0);
    EXPECT_EQ(run_program(verify).status, 1);
    verify.insert(verify.end(), {"--compat", "reference"});
    EXPECT_EQ(run_program(verify).status, 0);
}

TEST(Quantize, RefusesByName) {
    const TemporaryFolder folder;
    folder.write("file", "x");
    const auto refuse = [&](std::vector<std::string> args, int status, const std::string& says) {
        args.insert(args.begin(), {"quantize", "demo"});
        args.push_back("--no-sample");
        const Outcome o = run_program(args);
        EXPECT_EQ(o.status, status) << o.err;
        EXPECT_TRUE(o.one_line_error()) << o.err;
        EXPECT_NE(o.err.find(says), std::string::npos) << o.err;
        EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), {}), 1);
    };
    refuse({folder.path()}, 1, "a new or an empty folder");
    refuse({folder / "file"}, 1, "a new or an empty folder");
    refuse({folder / "no/such/place"}, 1, "cannot make folder");
    refuse({folder / "out", "--quant", "none"}, 2, "int8 or int4");
    refuse({folder / "out", "--quant-vision", "int4"}, 2, "--quant-vision cannot be int4");
    const Outcome full =
        run_program({"quantize", "demo", folder / "out", "--no-sample"}, "ulimit -f 8;");
    EXPECT_EQ(full.status, 1);
    EXPECT_TRUE(full.one_line_error()) << full.err;
    EXPECT_EQ(std::distance(fs::directory_iterator(folder.path()), {}), 1);
}

}  // namespace internvl
