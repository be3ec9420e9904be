// What users do wrong: each gets one clear line and status 1 (it failed) or 2 (wrong usage).
#include <filesystem>

#include "program.h"

namespace internvl {

namespace fs = std::filesystem;

static std::string tiny() {
    return golden("checkpoints/tiny-1b");
}

static void expect_failure(const Outcome& o, int status, const std::string& says) {
    EXPECT_EQ(o.status, status) << o.err;
    EXPECT_TRUE(o.one_line_error()) << o.err;
    EXPECT_NE(o.err.find(says), std::string::npos) << "expected \"" << says << "\" in: " << o.err;
    EXPECT_EQ(o.out, "");
}

// A copy of the tiny checkpoint with one file changed.
static std::string changed_copy(const TemporaryFolder& folder, const std::string& file,
                                const std::function<std::string(std::string)>& change) {
    const std::string copy = folder / "model";
    fs::copy(tiny(), copy, fs::copy_options::recursive);
    const std::string text = change(read_text(copy + "/" + file));
    std::ofstream(copy + "/" + file, std::ios::binary) << text;
    return copy;
}

static std::string replaced(std::string text, const std::string& from, const std::string& to) {
    const size_t at = text.find(from);
    EXPECT_NE(at, text.npos);
    return text.replace(at, from.size(), to);
}

TEST(Mistakes, Models) {
    const TemporaryFolder folder;
    expect_failure(run_program({"chat", "/no/such/folder", "-p", "x"}), 1, "no such model");
    expect_failure(run_program({"chat", folder.path(), "-p", "x"}), 1, folder.path());
    expect_failure(
        run_program({"chat", "OpenGVLab/InternVL2-1B", "-p", "x"}, "HF_HUB_CACHE=" + folder.path()),
        1, "internvl pull OpenGVLab/InternVL2-1B");
    expect_failure(run_program({"chat", "-p", "x"}, "INTERNVL_MODEL="), 2, "no model given");
    folder.write("config.json",
                 R"({"model_type":"llava","architectures":["LlavaForConditionalGeneration"]})");
    expect_failure(run_program({"chat", folder.path(), "-p", "x"}), 1, "llava");
}

TEST(Mistakes, DamagedCheckpoints) {
    {
        const TemporaryFolder folder;
        const std::string model = changed_copy(
            folder, "model.safetensors", [](std::string s) { return s.substr(0, s.size() / 2); });
        expect_failure(run_program({"chat", model, "-p", "x"}), 1, "outside the file");
    }
    {
        const TemporaryFolder folder;
        const std::string model = changed_copy(folder, "config.json", [](std::string s) {
            return replaced(s, "\"intermediate_size\": 160", "\"intermediate_size\": 192");
        });
        expect_failure(run_program({"chat", model, "-p", "x"}), 1,
                       "the configuration says [192, 96]");
    }
    {
        const TemporaryFolder folder;
        const std::string model = changed_copy(folder, "config.json", [](std::string s) {
            return replaced(s, "\"silu\"", "\"relu\"");
        });
        expect_failure(run_program({"chat", model, "-p", "x"}), 1, "hidden_act");
    }
}

TEST(Mistakes, IdsBeyondTheVocabulary) {
    const TemporaryFolder folder;
    const std::string model = changed_copy(folder, "added_tokens.json", [](std::string s) {
        return replaced(s, "{", "{ \"<late>\": 99999,");
    });
    expect_failure(run_program({"chat", model, "-p", "x"}), 1, "more ids than the model has rows");
}

// Two gigabytes, unless a sanitizer wants its terabytes of address space.
#ifdef INTERNVL_SANITIZED
static const char* const memory_limit = "";
#else
static const char* const memory_limit = "ulimit -v 2000000;";
#endif

TEST(Mistakes, Pictures) {
    const TemporaryFolder folder;
    folder.write("note.jpg", "this is not a picture\n");
    expect_failure(run_program({"chat", "demo", "-i", folder / "note.jpg", "-p", "x"}), 1,
                   "note.jpg");
    expect_failure(run_program({"chat", "demo", "-i", folder / "absent.jpg", "-p", "x"}), 1,
                   "absent.jpg");
    // The header of a 60000 x 60000 PNG, and little else.
    const std::string header("\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\xea\x60\0\0\xea\x60\x08\x02\0\0\0",
                             29);
    folder.write("huge.png", header + std::string(200, '\0'));
    expect_failure(
        run_program({"chat", "demo", "-i", folder / "huge.png", "-p", "x"}, memory_limit), 1,
        "huge.png");
    const Outcome tiles =
        run_program({"tiles", "--json", folder / "note.jpg", golden("media/gray.png")});
    EXPECT_EQ(tiles.status, 1);
    const auto lines = json_lines(tiles.out);
    ASSERT_EQ(lines.size(), 2u);
    EXPECT_TRUE(lines[0].contains("error"));
    EXPECT_EQ(lines[1]["tiles"],
              read_json(golden("media/expected.json"))["images"]["gray.png"]["at"]["12"]["tiles"]);
}

TEST(Mistakes, Clips) {
    const std::string clip = golden("media/clip_24fps.mp4");
    const TemporaryFolder folder;
    const std::string cut = folder.write("cut.mp4", read_text(clip).substr(0, 9000));
    expect_failure(run_program({"tiles", cut}, memory_limit), 1, "cut.mp4");
    expect_failure(run_program({"tiles", clip, "--bound", "100,101"}), 1, "no such frame");
    expect_failure(run_program({"tiles", clip, "--num-segments", "0"}), 2, "--num-segments");
    for (const char* bound : {"1", "1,", ",2", "a,b", "1,2,3", "1,inf"})
        expect_failure(run_program({"tiles", clip, "--bound", bound}), 2, "--bound");
    expect_failure(run_program({"chat", "demo", "-i", clip, "-p", "x"}), 1, "MP4 video");
}

TEST(Mistakes, Usage) {
    const std::string picture = golden("media/gray.png");
    expect_failure(run_program({"tiles", picture, "--max-num", "0"}), 2, "max");
    expect_failure(run_program({"tiles", picture, "--nonsense"}), 2, "--nonsense");
    expect_failure(run_program({"chat", "demo", "-p", "x", "--top-p", "2"}), 2, "top-p");
    expect_failure(run_program({"chat", "demo", "-p", "x", "--do-sample", "--temperature", "0"}), 2,
                   "temperature");
    expect_failure(run_program({"chat", "demo", "-p", "x", "--num-beams", "3", "--do-sample"}), 2,
                   "beam search");
    expect_failure(run_program({"chat", "demo", "-p", "x", "--video", "a.mp4"}), 1, "a.mp4");
    expect_failure(run_program({"chat", "demo", "--ground", "x"}), 2, "one picture");
    expect_failure(run_program({"chat", "demo", "-p", "x", "--ground", "x"}), 2, "exclude");
    expect_failure(run_program({"chat", "demo", "-p", "x", "--bound", "3"}), 2, "--bound");
    expect_failure(run_program({"chat", "demo", "-p", "x", "--num-segments", "0"}), 2,
                   "--num-segments");
    expect_failure(run_program({"chat", "demo", "-p", "x", "--quant", "int3"}), 2, "int3");
    expect_failure(run_program({"chat", "demo", "-p", "x", "--device", "cuda"}), 2, "--device");
    expect_failure(run_program({"chat", "demo", "-p", "x", "--dtype", "int3"}), 2, "dtype");
    expect_failure(run_program({"serve", "demo", "--host", "0.0.0.0"}), 2, "--api-key-file");
    expect_failure(run_program({"serve", "demo", "--port", "70000"}), 2, "port");
    expect_failure(run_program({}), 2, "subcommand");
    expect_failure(run_program({"chat", "demo", "-p", "x"}, "INTERNVL_CPU=z80"), 1, "INTERNVL_CPU");
}

TEST(Mistakes, FullDiskLeavesNoFile) {
    const TemporaryFolder folder;
    const std::string out = folder / "stages.safetensors";
    const Outcome o = run_program({"trace", "demo", "-p", "x", "--out", out}, "ulimit -f 16;");
    expect_failure(o, 1, "cannot write file");
    EXPECT_TRUE(fs::is_empty(folder.path()));
    expect_failure(
        run_program({"trace", "demo", "-p", "x", "--out", "/no/such/folder/x.safetensors"}), 1,
        "cannot write");
}

TEST(Mistakes, ReaderThatGoesAwayIsNoError) {
    EXPECT_EQ(std::system((quoted(std::string(INTERNVL_BINARY_DIR) + "/internvl") +
                           " inspect demo | head -1 > /dev/null")
                              .c_str()),
              0);
}

// A prompt beyond what the model was trained with is computed, with a notice; one beyond its
// positions is refused with the numbers before anything is looked at.
TEST(Mistakes, PromptsThatAreTooLong) {
    const std::string clip = golden("media/clip_24fps.mp4");
    const Outcome notice =
        run_program({"chat", golden("checkpoints/tiny-1b"), "-v", clip, "--num-segments", "33",
                     "-p", "x", "--max-new-tokens", "1", "--quiet"});
    EXPECT_EQ(notice.status, 0);
    EXPECT_NE(notice.err.find("trained with up to 8192"), std::string::npos) << notice.err;
    expect_failure(run_program({"chat", golden("checkpoints/tiny-4b"), "-v", clip, "--num-segments",
                                "65", "-p", "x"}),
                   1, "16640 of 65 tiles; 61 tiles would fit");
}

}  // namespace internvl
