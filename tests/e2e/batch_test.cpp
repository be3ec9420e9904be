// `batch`: answers as one by one, in order, and what happens when it is stopped.
#include <sys/wait.h>
#include <unistd.h>
#include <csignal>
#include <random>

#include "program.h"

namespace internvl {

static std::string tiny() {
    return golden("checkpoints/tiny-1b");
}

static nlohmann::json part(const std::string& file) {
    return {{"type", "image_url"}, {"image_url", {{"url", golden("media/" + file)}}}};
}

// The body of line n: text, one or several pictures, history, sampling.
static nlohmann::json body_of(int n) {
    nlohmann::json content = {{{"type", "text"}, {"text", "Question " + std::to_string(n)}}};
    if (n % 5 == 1) content.push_back(part("rgb_1tile.png"));
    if (n % 25 == 2) content.push_back(part("rgb_3tiles.png")), content.push_back(part("gray.png"));
    nlohmann::json messages = {{{"role", "user"}, {"content", content}}};
    if (n % 7 == 3) {
        messages.push_back({{"role", "assistant"}, {"content", "So it is."}});
        messages.push_back({{"role", "user"}, {"content", "Why?"}});
    }
    nlohmann::json body = {{"model", "tiny"},
                           {"messages", messages},
                           {"max_tokens", 3 + n % 9},
                           {"return_token_ids", true}};
    if (n % 4 == 0) body["temperature"] = 0.8, body["seed"] = n;
    return body;
}

static std::string input_of(int lines) {
    std::string text;
    for (int n = 0; n < lines; ++n)
        text += nlohmann::json{{"custom_id", "line-" + std::to_string(n)},
                               {"method", "POST"},
                               {"url", "/v1/chat/completions"},
                               {"body", body_of(n)}}
                    .dump() +
                "\n";
    return text;
}

static std::vector<std::string> batch(const std::string& in, const std::string& out) {
    return {"batch", tiny(), in, out, "--quiet", "--dtype", "fp32"};
}

TEST(Batch, AnswersAreThoseOfOneByOne) {
    const TemporaryFolder folder;
    const std::string in = folder.write("in.jsonl", input_of(30));
    ASSERT_EQ(run_program(batch(in, folder / "together.jsonl")).status, 0);
    auto alone = batch(in, folder / "alone.jsonl");
    alone.insert(alone.end(), {"--max-sequences", "1"});
    ASSERT_EQ(run_program(alone).status, 0);
    EXPECT_EQ(read_text(folder / "together.jsonl"), read_text(folder / "alone.jsonl"));
    const auto lines = read_json_lines(folder / "together.jsonl");
    ASSERT_EQ(lines.size(), 30u);
    for (int n = 0; n < 30; ++n) {
        EXPECT_EQ(lines[size_t(n)]["custom_id"], "line-" + std::to_string(n));
        const auto& body = lines[size_t(n)]["response"]["body"];
        EXPECT_EQ(body["object"], "chat.completion");
        EXPECT_LE(body["usage"]["completion_tokens"].get<int>(), 3 + n % 9);
    }
    // A line without history, through chat.
    const Outcome o =
        run_program({"chat", tiny(), "-i", golden("media/rgb_1tile.png"), "-p", "Question 1",
                     "--json", "--dtype", "fp32", "--max-new-tokens", "4"});
    EXPECT_EQ(json_lines(o.out)[0]["ids"], lines[1]["response"]["body"]["choices"][0]["token_ids"]);
}

// Starts the program and kills it when the output has so many lines.
static void run_and_kill(const std::vector<std::string>& arguments, const std::string& out,
                         size_t lines) {
    const pid_t child = fork();
    if (child == 0) {
        std::vector<std::string> words = arguments;
        words.insert(words.begin(), program_path());
        std::vector<char*> argv;
        for (std::string& w : words) argv.push_back(w.data());
        argv.push_back(nullptr);
        execv(argv[0], argv.data());
        _exit(127);
    }
    for (int wait = 0; wait < 6000; ++wait) {
        const std::string text = std::filesystem::exists(out) ? read_text(out) : "";
        if (size_t(std::ranges::count(text, '\n')) >= lines) break;
        if (waitpid(child, nullptr, WNOHANG) == child) return;
        usleep(5000);
    }
    kill(child, SIGKILL);
    waitpid(child, nullptr, 0);
}

TEST(Batch, KilledThreeTimesEndsAsUndisturbed) {
    const TemporaryFolder folder;
    const std::string in = folder.write("in.jsonl", input_of(200));
    ASSERT_EQ(run_program(batch(in, folder / "whole.jsonl")).status, 0);
    std::mt19937 random{std::random_device{}()};
    const std::string out = folder / "killed.jsonl";
    size_t lines = 0;
    for (int kill = 0; kill < 3; ++kill) {
        lines += 10 + random() % 40;
        run_and_kill(batch(in, out), out, lines);
        const std::string left = read_text(out);
        EXPECT_TRUE(read_text(folder / "whole.jsonl").starts_with(left)) << "after kill " << kill;
        if (kill == 1)
            std::ofstream(out, std::ios::app) << "{\"id\": \"torn";  // as a full disk would
    }
    ASSERT_EQ(run_program(batch(in, out)).status, 0);
    EXPECT_EQ(read_text(out), read_text(folder / "whole.jsonl"));
    EXPECT_EQ(run_program(batch(in, out)).status, 0);  // nothing is missing
    EXPECT_EQ(read_text(out), read_text(folder / "whole.jsonl"));
}

TEST(Batch, BadLinesAreAnsweredWithTheirMistake) {
    const TemporaryFolder folder;
    const std::string in = folder.write(
        "in.jsonl",
        "not JSON\n" + input_of(1) + R"({"custom_id":"b","body":{"messages":[)" + "\n" +
            R"({"custom_id":"c","url":"/v1/embeddings","body":{}})" + "\n\n" +
            R"({"custom_id":"d","body":{"messages":[{"role":"user","content":"x"}],"n":3}})");
    const Outcome o = run_program(batch(in, folder / "out.jsonl"));
    EXPECT_EQ(o.status, 1);
    const auto lines = read_json_lines(folder / "out.jsonl");
    ASSERT_EQ(lines.size(), 5u);
    EXPECT_EQ(lines[1]["response"]["status_code"], 200);
    EXPECT_EQ(lines[0]["response"]["body"]["error"]["code"], "invalid_json");
    EXPECT_EQ(lines[3]["response"]["body"]["error"]["code"], "unsupported_endpoint");
    EXPECT_EQ(lines[4]["response"]["body"]["error"]["param"], "n");
    EXPECT_EQ(lines[4]["custom_id"], "d");
}

TEST(Batch, AnOutputOfAnotherInputIsNotTouched) {
    const TemporaryFolder folder;
    const std::string in = folder.write("in.jsonl", input_of(2));
    const std::string out = folder.write("out.jsonl", "{\"custom_id\":\"other\"}\n");
    const Outcome o = run_program(batch(in, out));
    EXPECT_EQ(o.status, 1);
    EXPECT_NE(o.err.find("another input"), std::string::npos) << o.err;
    EXPECT_EQ(read_text(out), "{\"custom_id\":\"other\"}\n");
    EXPECT_EQ(run_program(batch(folder / "none.jsonl", out)).status, 1);
}

}  // namespace internvl
