// Every verb on the tiny checkpoint, through the command line.
#include <filesystem>
#include <set>

#include "program.h"

namespace internvl {

namespace fs = std::filesystem;

static std::string tiny() {
    return golden("checkpoints/tiny-1b");
}

// Golden dialogues through `chat --rounds --json --compat reference`, to the id. -> rounds
static int play_dialogues(const std::string& family, bool all) {
    const auto expected = read_json(golden("expected/" + family + ".json"));
    const std::set<std::string> some = {"text_unicode", "image_one_round", "video_two_rounds"};
    int rounds = 0;
    for (const auto& d : expected["dialogues"]) {
        if (d["kind"] != "chat" || (!all && !some.contains(d["name"]))) continue;
        SCOPED_TRACE(d["name"].get<std::string>());
        const TemporaryFolder folder;
        nlohmann::json play = {{"questions", d["questions"]},
                               {"system", d["system_message"]},
                               {"combine", !d.contains("num_patches_list")},
                               {"images", nlohmann::json::array()}};
        for (const auto& image : d["images"])
            play["images"].push_back(
                {{"file",
                  fs::relative(golden("media/" + image[0].get<std::string>()), folder.path())},
                 {"max_num", image[1]}});
        if (!d["video"].empty())
            play["video"] = {{"file", fs::relative(golden("media/clip_24fps.mp4"), folder.path())},
                             {"num_segments", d["video"][1]}};
        const Outcome o =
            run_program({"chat", golden("checkpoints/" + family), "--rounds",
                         folder.write("play.json", play.dump()), "--json", "--compat", "reference",
                         "--dtype", "fp32", "--greedy", "--max-new-tokens",
                         std::to_string(d["max_new_tokens"].get<int>())});
        EXPECT_EQ(o.status, 0) << o.err;
        const auto lines = json_lines(o.out);
        EXPECT_EQ(lines.size(), d["questions"].size());
        for (size_t i = 0; i < lines.size(); ++i, ++rounds) {
            const auto& call = d["calls"][i][0];
            EXPECT_EQ(lines[i]["prompt_ids"].get<std::vector<int>>(),
                      expand_ids(call["input_ids"]));
            EXPECT_EQ(lines[i]["ids"], call["generated"]);
            EXPECT_EQ(lines[i]["text"], d["responses"][i]);
            EXPECT_EQ(lines[i]["usage"]["completion_tokens"], call["generated"].size());
        }
    }
    return rounds;
}

TEST(Chat, GoldenDialogues) {
    EXPECT_GE(play_dialogues("tiny-1b", true), 17);
    for (const char* family : {"tiny-2b", "tiny-4b", "tiny-26b", "tiny-40b", "tiny-76b"})
        EXPECT_EQ(play_dialogues(family, false), 4) << family;
}

// Pictures and videos mixed: pictures first, frames numbered from 1 in each video.
TEST(Chat, PicturesAndVideosMixed) {
    const std::string clip = golden("media/clip_24fps.mp4");
    const Outcome o =
        run_program({"chat", tiny(), "-v", clip, "-i", golden("media/rgb_1tile.png"), "-v", clip,
                     "--num-segments", "2", "-p", "What?", "--json", "--max-new-tokens", "2"});
    ASSERT_EQ(o.status, 0) << o.err;
    const auto j = json_lines(o.out)[0];
    std::string prompt = j["prompt"];
    for (size_t at; (at = prompt.find("<IMG_CONTEXT>")) != prompt.npos;) prompt.erase(at, 13);
    const std::string frames = "Frame1: <img></img>\nFrame2: <img></img>\n";
    EXPECT_NE(prompt.find("user\n<img></img>\n" + frames + frames + "What?"), prompt.npos)
        << prompt;
    EXPECT_EQ(j["usage"]["image_tokens"], 5 * 256);
    EXPECT_EQ(j["videos"][1]["frames"].size(), 2u);
}

TEST(Chat, TotalTileBudget) {
    const Outcome o = run_program({"chat", "-i", golden("media/rgb_5tiles.png"), tiny(), "-i",
                                   golden("media/thirteen_tiles.jpg"), "--total-max-num", "8", "-p",
                                   "What?", "--json", "--max-new-tokens", "1"});
    ASSERT_EQ(o.status, 0) << o.err;
    int tiles = 0;
    const auto j = json_lines(o.out)[0];
    for (const auto& image : j["images"]) tiles += image["tiles"].get<int>();
    EXPECT_LE(tiles, 8);
    EXPECT_GE(tiles, 6);
}

// The card's question with its tags as tokens; the tiny model's answer has no box, the picture is
// written all the same.
TEST(Chat, GroundsAPhrase) {
    const TemporaryFolder folder;
    const std::string out = folder / "boxes.png";
    const Outcome o =
        run_program({"chat", tiny(), "-i", golden("media/rgb_1tile.png"), "--ground", "the red car",
                     "--json", "--draw", out, "--max-new-tokens", "4"});
    ASSERT_EQ(o.status, 0) << o.err;
    const auto j = json_lines(o.out)[0];
    EXPECT_NE(j["prompt"].get<std::string>().find(
                  "Please provide the bounding box coordinate of the region this sentence "
                  "describes: <ref>the red car</ref>"),
              std::string::npos);
    const Outcome tag = run_program({"tokenize", tiny(), "--text", "<ref>"});
    const auto ids = j["prompt_ids"].get<std::vector<int>>();
    EXPECT_EQ(std::ranges::count(ids, std::stoi(tag.out)), 1) << tag.out;
    EXPECT_TRUE(j["boxes"].is_array());
    EXPECT_EQ(run_program({"tiles", out}).status, 0);
}

TEST(Chat, ReferenceLengthWithoutALimit) {
    const auto expected = read_json(golden("expected/tiny-1b.json"));
    for (const auto& m : expected["misuse"]) {
        if (m["what"].get<std::string>().find("no max_new_tokens") == std::string::npos) continue;
        // The recorded call is the picture's; its prompt says which question.
        const Outcome o =
            run_program({"chat", tiny(), "-i", golden("media/rgb_1tile.png"), "-p",
                         "<image>\nWhat?", "--json", "--compat", "reference", "--dtype", "fp32"});
        EXPECT_LE(json_lines(o.out)[0]["ids"].size(), 19u);
    }
}

TEST(Chat, PicturesArePlacedAndControlStringsAreText) {
    const std::string one = golden("media/rgb_1tile.png");
    const auto ask = [&](std::vector<std::string> args) {
        std::vector<std::string> all = {"chat", "demo", "--json", "--max-new-tokens", "1"};
        all.insert(all.end(), args.begin(), args.end());
        const Outcome o = run_program(all);
        EXPECT_EQ(o.status, 0) << o.err;
        std::string prompt = json_lines(o.out)[0]["prompt"];
        for (size_t at; (at = prompt.find("<IMG_CONTEXT>")) != prompt.npos;) prompt.erase(at, 13);
        const size_t user = prompt.find("<|im_start|>user\n") + 17;
        return prompt.substr(user, prompt.rfind("<|im_start|>assistant") - user);
    };
    EXPECT_EQ(ask({"-i", one, "-p", "hi"}), "<img></img>\nhi<|im_end|>");
    EXPECT_EQ(ask({"-i", one, "-i", one, "-p", "hi"}),
              "Image-1: <img></img>\nImage-2: <img></img>\nhi<|im_end|>");
    EXPECT_EQ(ask({"-i", one, "-i", one, "-p", "a <image> b <image> c"}),
              "a <img></img> b <img></img> c<|im_end|>");
    EXPECT_EQ(ask({"-i", one, "-i", one, "--combine", "-p", "hi"}), "<img></img>\nhi<|im_end|>");
    EXPECT_EQ(ask({"-p", "what is <image>?"}), "what is <image>?<|im_end|>");
    const auto lines = json_lines(
        run_program({"chat", "demo", "--json", "--max-new-tokens", "1", "-p", "<|im_end|>"}).out);
    const auto ids = lines[0]["prompt_ids"].get<std::vector<int>>();
    EXPECT_EQ(std::ranges::count(ids, 702), 2);  // the template's own, not the user's
}

TEST(Chat, StreamsToStdoutAndReadsStdin) {
    const Outcome o = run_program({"chat", "demo", "--max-new-tokens", "8"}, "printf 'Hello' |");
    EXPECT_EQ(o.status, 0);
    EXPECT_FALSE(o.out.empty());
    EXPECT_NE(o.err.find("tokens"), std::string::npos);
    EXPECT_EQ(run_program({"chat", "demo", "--max-new-tokens", "8", "--quiet", "-p", "Hello"}).out,
              o.out);
}

TEST(Chat, SeedsRepeat) {
    const auto draw = [](const std::string& seed, const std::string& threads) {
        return json_lines(
            run_program({"chat", "demo", "--json", "--do-sample", "--max-new-tokens", "24", "-p",
                         "Hello", "--temperature", "2", "--seed", seed, "--threads", threads})
                .out)[0]["ids"];
    };
    EXPECT_EQ(draw("7", "1"), draw("7", "2"));
    EXPECT_NE(draw("7", "1"), draw("8", "1"));
}

TEST(Chat, StopTextsEndAnAnswer) {
    const std::string full = json_lines(run_program({"chat", "demo", "--json", "--max-new-tokens",
                                                     "20", "-p", "Hello, who are you?"})
                                            .out)[0]["text"];
    ASSERT_NE(full.find("we"), std::string::npos) << full;
    const auto cut = json_lines(run_program({"chat", "demo", "--json", "--max-new-tokens", "20",
                                             "-p", "Hello, who are you?", "--stop", "we"})
                                    .out)[0];
    EXPECT_EQ(cut["text"], full.substr(0, full.find("we")));
    EXPECT_EQ(cut["finish_reason"], "stop");
}

TEST(Tiles, GoldenMedia) {
    const auto expected = read_json(golden("media/expected.json"));
    for (const auto& [file, wanted] : expected["images"].items())
        for (const auto& [max_num, at] : wanted["at"].items()) {
            const Outcome o =
                run_program({"tiles", "--json", "--max-num", max_num, golden("media/" + file)});
            ASSERT_EQ(o.status, 0) << o.err;
            const auto got = json_lines(o.out)[0];
            EXPECT_EQ(got["sha256_image"], wanted["sha256_rgb"]) << file;
            EXPECT_EQ(got["grid"], at["grid"]) << file;
            EXPECT_EQ(got["tiles"], at["tiles"]) << file;
            EXPECT_EQ(got["sha256_rgb"], at["sha256_u8"]) << file;
            EXPECT_EQ(got["sha256_f32"], at["sha256_f32"]) << file;
            EXPECT_EQ(got["sha256_bf16"], at["sha256_bf16"]) << file;
        }
}

TEST(Tiles, WritesPictures) {
    const TemporaryFolder folder;
    const Outcome o =
        run_program({"tiles", golden("media/rgb_3tiles.png"), "--out", folder.path()});
    EXPECT_EQ(o.status, 0) << o.err;
    EXPECT_TRUE(fs::exists(folder / "rgb_3tiles_02.png"));
    const auto sheet =
        json_lines(run_program({"tiles", "--json", folder / "rgb_3tiles_sheet.png"}).out)[0];
    EXPECT_EQ(sheet["width"], 2 * 456 + 8);
    const auto tile =
        json_lines(run_program({"tiles", "--json", folder / "rgb_3tiles_00.png"}).out)[0];
    EXPECT_EQ(tile["width"], 448);
}

TEST(Tiles, GoldenClips) {
    const auto expected = read_json(golden("media/expected.json"));
    for (const auto& [file, wanted] : expected["clips"].items())
        for (const auto& at : wanted["segments"]) {
            std::vector<std::string> args = {"tiles", "--json", golden("media/" + file),
                                             "--num-segments", at["num_segments"].dump()};
            if (!at["bound"].is_null())
                args.push_back("--bound=" + at["bound"][0].dump() + "," + at["bound"][1].dump());
            const Outcome o = run_program(args);
            ASSERT_EQ(o.status, 0) << o.err;
            const auto got = json_lines(o.out)[0];
            EXPECT_EQ(got["frames"], at["indices"]) << file;
            EXPECT_EQ(got["fps"], wanted["average_fps"]) << file;
            EXPECT_EQ(got["frame_count"], wanted["frames"]) << file;
            EXPECT_EQ(got["grid"], nlohmann::json({1, 1})) << file;
            EXPECT_EQ(got["tiles"], at["tiles"]) << file;
            EXPECT_EQ(got["tokens"], 256 * at["tiles"].get<int>()) << file;
            EXPECT_EQ(got["sha256_rgb"], at["sha256_u8"]) << file;
            EXPECT_EQ(got["sha256_f32"], at["sha256_f32"]) << file;
            EXPECT_EQ(got["sha256_bf16"], at["sha256_bf16"]) << file;
            for (size_t i = 0; i < got["frames"].size(); ++i)
                EXPECT_EQ(got["sha256_frames"][i].get<std::string>().substr(0, 16),
                          wanted["sha256_rgb_per_frame"][got["frames"][i].get<size_t>()]);
        }
}

TEST(Tiles, WritesFramesOfClips) {
    const TemporaryFolder folder;
    const std::string clip = golden("media/clip_2997fps.mp4");
    const Outcome o = run_program({"tiles", clip, "--num-segments", "5", "--out", folder.path()});
    EXPECT_EQ(o.status, 0) << o.err;
    EXPECT_NE(o.out.find("5 of 90 frames (8 26 44 61 79), each 192 x 256"), o.out.npos) << o.out;
    EXPECT_TRUE(fs::exists(folder / "clip_2997fps_frame000061_00.png"));
    const auto sheet =
        json_lines(run_program({"tiles", "--json", folder / "clip_2997fps_sheet.png"}).out)[0];
    EXPECT_EQ(sheet["width"], 3 * 456 + 8);
    EXPECT_EQ(sheet["height"], 2 * 456 + 8);
    // Frames are pictures with tiles of their own, once that is asked for.
    const auto tiled = json_lines(
        run_program({"tiles", "--json", clip, "--num-segments", "2", "--max-num", "6"}).out)[0];
    EXPECT_EQ(tiled["grid"], nlohmann::json({2, 3}));
    EXPECT_EQ(tiled["tiles"], 14);
}

TEST(Tiles, WhatMovesAndIsAPictureStaysOne) {
    const auto got = json_lines(run_program({"tiles", "--json", golden("media/animated.gif")}).out);
    EXPECT_FALSE(got[0].contains("frames"));
    EXPECT_EQ(
        got[0]["tiles"],
        read_json(golden("media/expected.json"))["images"]["animated.gif"]["at"]["12"]["tiles"]);
}

TEST(Tokenize, BothWays) {
    EXPECT_EQ(run_program({"tokenize", tiny(), "--text", "## Title"}).out.substr(0, 4), "2 2 ");
    std::string input;
    std::vector<nlohmann::json> vectors;
    for (const auto& line : read_json_lines(golden("tokenizer/tiny-1b.jsonl"))) {
        if (line["text"].is_null()) continue;
        vectors.push_back(line);
        input += nlohmann::json{{"text", line["text"]}}.dump() + "\n" +
                 nlohmann::json{{"ids", line["ids"]}}.dump() + "\n";
    }
    const TemporaryFolder folder;
    const auto lines = json_lines(
        run_program({"tokenize", tiny(), "--jsonl", folder.write("in.jsonl", input)}).out);
    ASSERT_EQ(lines.size(), 2 * vectors.size());
    for (size_t i = 0; i < vectors.size(); ++i) {
        EXPECT_EQ(lines[2 * i]["ids"], vectors[i]["ids"]);
        EXPECT_EQ(lines[2 * i + 1]["text"], vectors[i]["decoded"]);
        EXPECT_EQ(lines[2 * i + 1]["text_without_specials"], vectors[i]["decoded_skip_special"]);
    }
    EXPECT_EQ(run_program({"tokenize", tiny(), "--decode"}, "printf '2 2' |").out, "##\n");
}

TEST(Inspect, ReportsSizesAndProblems) {
    const auto good = json_lines(run_program({"inspect", "demo", "--json"}).out)[0];
    EXPECT_EQ(good["parameters"]["total"], 588480);
    EXPECT_EQ(good["special_ids"]["<IMG_CONTEXT>"], 705);
    EXPECT_TRUE(good["problems"].empty()) << good;
    const TemporaryFolder folder;
    fs::copy(tiny(), folder / "m", fs::copy_options::recursive);
    fs::remove(folder / "m/merges.txt");
    std::ofstream(folder / "m/model.safetensors") << "short";
    const Outcome bad = run_program({"inspect", folder / "m", "--json"});
    EXPECT_EQ(bad.status, 1);
    EXPECT_EQ(json_lines(bad.out)[0]["problems"].size(), 2u);
    fs::remove(folder / "m/model.safetensors");  // needs no weights
    std::ofstream(folder / "m/merges.txt") << "#version: 0.2\n";
    EXPECT_EQ(run_program({"inspect", folder / "m"}).status, 0);
}

TEST(Trace, VerifiesAgainstItselfAndFindsTheFirstDifference) {
    const TemporaryFolder folder;
    const std::string picture = golden("media/rgb_1tile.png"), file = folder / "stages.safetensors";
    const Outcome traced = run_program(
        {"trace", "demo", "-i", picture, "-p", "What?", "--dtype", "fp32", "--out", file});
    ASSERT_EQ(traced.status, 0) << traced.err;
    const Outcome same = run_program({"verify", "demo", file, "-i", picture, "--threads", "1"});
    EXPECT_EQ(same.status, 0) << same.out << same.err;
    EXPECT_NE(same.out.find("all stages agree"), std::string::npos);
    // Another picture: everything from the embeddings on differs.
    const Outcome other =
        run_program({"verify", "demo", file, "-i", golden("media/gray.png"), "--max-num", "1"});
    EXPECT_EQ(other.status, 1);
    EXPECT_NE(other.out.find("first difference: vision/embeddings"), std::string::npos)
        << other.out;
    const Outcome bf16 = run_program({"verify", "demo", file, "-i", picture, "--dtype", "bf16"});
    EXPECT_EQ(bf16.status, 0) << bf16.out;
    const Outcome fp16 = run_program({"verify", "demo", file, "-i", picture, "--dtype", "fp16"});
    EXPECT_EQ(fp16.status, 0) << fp16.out;
}

TEST(Trace, StagesOfAList) {
    const TemporaryFolder folder;
    const std::string file = folder / "s.safetensors";
    ASSERT_EQ(run_program({"trace", "demo", "--raw", "-p", "Hello", "--stages", "text/logits",
                           "--last-logits", "--out", file})
                  .status,
              0);
    EXPECT_LT(fs::file_size(file), 8000u);
    EXPECT_EQ(
        run_program({"trace", "demo", "-p", "x", "--stages", "nothing", "--out", file}).status, 2);
}

TEST(Bench, SaysTheShareOfThePeak) {
    const auto lines =
        json_lines(run_program({"bench", "demo", "--json", "--tiles", "1", "--prompt-tokens", "64",
                                "--context", "64", "--tokens", "4", "--sequences", "3", "--repeat",
                                "1", "-i", golden("media/rgb_3tiles.png")})
                       .out);
    std::vector<std::string> names;
    for (const auto& line : lines) {
        names.push_back(line["name"]);
        if (line.contains("of_peak")) {
            EXPECT_GT(line["of_peak"].get<double>(), 0);
        }
    }
    EXPECT_EQ(names, (std::vector<std::string>{"load", "preprocess", "vision", "prefill", "decode",
                                               "decode", "first_token"}));
    EXPECT_EQ(lines[4]["batch"], 1);
    EXPECT_EQ(lines[5]["batch"], 3);
    EXPECT_GT(lines[6]["ms"].get<double>(), lines[6]["second_question_ms"].get<double>());
}

TEST(Synth, RefusesUnknownNames) {
    const TemporaryFolder folder;
    const Outcome o = run_program({"synth", "--like", "gpt", "--out", folder / "x"});
    EXPECT_EQ(o.status, 1);
    EXPECT_NE(o.err.find("internvl2-1b"), std::string::npos);
}

TEST(Completion, OffersVerbsAndOptions) {
    for (const char* kind : {"bash", "zsh", "man"}) {
        const Outcome o = run_program({"completion", kind});
        EXPECT_EQ(o.status, 0) << o.err;
        EXPECT_NE(o.out.find("tokenize"), std::string::npos);
        EXPECT_NE(o.out.find("max"), std::string::npos);
    }
    EXPECT_EQ(
        std::system(
            ("bash -n " + quoted(std::string(INTERNVL_BINARY_DIR) + "/internvl.bash")).c_str()),
        0);
    EXPECT_EQ(run_program({"completion", "fish"}).status, 2);
}

TEST(Example, QuickStartRuns) {
    const Outcome o =
        run_program({tiny(), golden("media/rgb_1tile.png"), "What is it?"}, "", "quick_start");
    EXPECT_EQ(o.status, 0) << o.err;
    EXPECT_NE(o.out.find("tokens"), std::string::npos);
    EXPECT_EQ(run_program({"/none", "x", "y"}, "", "quick_start").status, 1);
    const Outcome all =
        run_program({tiny(), golden("media/rgb_1tile.png"), golden("media/three_by_two.png"),
                     golden("media/clip_24fps.mp4")},
                    "", "quick_start");
    EXPECT_EQ(all.status, 0) << all.err;
    for (const char* part : {"pure-text", "single-round", "multi-round", "combined", "separate",
                             "batch", "video", "streaming"})
        EXPECT_NE(all.out.find(part), std::string::npos) << part;
}

}  // namespace internvl
