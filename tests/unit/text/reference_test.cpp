// What other people's programs gave on real vocabularies (../shared; skipped without it).
#include <set>

#include "base/digest.h"
#include "folders.h"
#include "text/chat_template.h"
#include "text/piece_bpe.h"
#include "text/stream_decoder.h"
#include "tokenizer_json_text.h"

namespace internvl {

static const std::string vectors = "data/tokenizer_vectors/";

using Encode = std::function<std::vector<int>(const std::string&)>;

static bool any_text(const std::string&) {
    return true;
}

// ref/NAME.jsonl: 506 short texts and the ids of six long ones.
static void compare_with_reference(const std::string& name, const Encode& encode,
                                   const std::function<bool(const std::string&)>& wanted = any_text,
                                   int least = 506) {
    const auto corpus = read_json_lines(outside(vectors + "corpus.jsonl"));
    int short_texts = 0, long_texts = 0;
    for (const auto& line : read_json_lines(outside(vectors + "ref/" + name + ".jsonl"))) {
        if (line.contains("i")) {
            const std::string text = corpus[line["i"].get<size_t>()]["text"];
            if (!wanted(text)) continue;
            EXPECT_EQ(encode(text), line["ids"].get<std::vector<int>>()) << text;
            ++short_texts;
        } else if (line.contains("long")) {
            const std::string long_name = line["long"];
            const std::vector<int> ids =
                encode(read_text(outside(vectors + "long/" + long_name + ".txt")));
            EXPECT_EQ(ids.size(), line["n"].get<size_t>()) << long_name;
            EXPECT_EQ(sha256_hex(ids.data(), ids.size() * sizeof(int)), line["sha256_u32le"])
                << long_name;
            ++long_texts;
        }
    }
    EXPECT_GE(short_texts, least);
    EXPECT_EQ(long_texts, 6);
}

static Encode encode_with(const Tokenizer& t) {
    return [&t](const std::string& text) { return t.encode(text); };
}

// Texts of the llama.cpp vocabulary tests and their ids.
static void compare_with_llama_cpp(const std::string& name, const Encode& encode) {
    const std::string path = outside(vectors + "llama.cpp/ggml-vocab-" + name + ".gguf");
    const std::string texts = read_text(path + ".inp"), mark = "\n__ggml_vocab_test__\n";
    std::stringstream answers(read_text(path + ".out"));
    int compared = 0;
    for (size_t at = 0, end; (end = texts.find(mark, at)) != texts.npos; at = end + mark.size()) {
        std::string line;
        std::getline(answers, line);
        std::stringstream in(line);
        std::vector<int> ids;
        for (int id; in >> id;) ids.push_back(id);
        EXPECT_EQ(encode(texts.substr(at, end - at)), ids) << texts.substr(at, end - at);
        ++compared;
    }
    EXPECT_GE(compared, 40);
}

static Encode encode_pieces(const PieceBpe& bpe) {
    return [&bpe](const std::string& text) {
        std::vector<int> ids;
        bpe.encode(text, ids);
        return ids;
    };
}

static PieceBpe piece_model(const std::string& name) {
    return PieceBpe::load(read_text(outside("data/tokenizers/" + name + "/tokenizer.model")), name);
}

TEST(Reference, Qwen2) {
    REQUIRE_OUTSIDE("data/tokenizers/internvl2-1b");
    compare_with_reference("internvl2-1b", encode_with(real("internvl2-1b")));
}

TEST(Reference, InternLM2Pieces) {
    REQUIRE_OUTSIDE("data/tokenizers/internlm2");
    compare_with_reference("internlm2", encode_pieces(piece_model("internlm2")));
}

TEST(Reference, YiPieces) {
    REQUIRE_OUTSIDE("data/tokenizers/yi-34b");
    compare_with_reference("yi-34b", encode_pieces(piece_model("yi-34b")));
}

TEST(Reference, LlamaPieces) {
    REQUIRE_OUTSIDE("data/tokenizers/llama2");
    const PieceBpe bpe = piece_model("llama2");
    compare_with_reference("llama2-spm", encode_pieces(bpe));
    compare_with_llama_cpp("llama-spm", encode_pieces(bpe));
    compare_with_llama_cpp("phi-3", encode_pieces(bpe));
}

// The fast Phi-3 tokenizer agrees with the slow one where there is no special token.
TEST(Reference, Phi3) {
    REQUIRE_OUTSIDE("data/tokenizers/llama2");
    const auto without_start = [](const std::string& text) {
        std::vector<int> ids = real("internvl2-4b").encode(text);
        ids.erase(ids.begin());
        return ids;
    };
    const auto no_special = [](const std::string& text) {
        return text.find("<|") == text.npos && text.find("<s>") == text.npos &&
               text.find("</s>") == text.npos && text.find("<unk>") == text.npos &&
               text.find("<im") == text.npos && text.find("</im") == text.npos &&
               text.find("<IMG") == text.npos && text.find("ref>") == text.npos &&
               text.find("box>") == text.npos && text.find("quad>") == text.npos;
    };
    compare_with_reference("phi3-mini", without_start, no_special, 400);
}

static Tokenizer from_json(const TokenizerJsonText& parts, const std::string& config = "{}") {
    return Tokenizer::load(
        [&](const std::string& name) -> std::optional<std::string> {
            if (name == "tokenizer.json") return parts.text();
            if (name == "tokenizer_config.json") return config;
            return std::nullopt;
        },
        "converted");
}

// Qwen2 shipped as tokenizer.json only: every merge counts, also those that begin with #.
TEST(Reference, Qwen2AsTokenizerJson) {
    REQUIRE_OUTSIDE("data/tokenizers/qwen2");
    TokenizerJsonText parts;
    parts.vocabulary = read_text(outside("data/tokenizers/qwen2/vocab.json"));
    parts.read_merges(read_text(outside("data/tokenizers/qwen2/merges.txt")), 1);
    parts.normalizer = R"({"type": "NFC"})";
    parts.added = {{151643, "<|endoftext|>"}, {151644, "<|im_start|>"}, {151645, "<|im_end|>"}};
    const Tokenizer t = from_json(parts);
    compare_with_reference("qwen2", encode_with(t));
    compare_with_llama_cpp("qwen2", encode_with(t));
    EXPECT_EQ(t.encode("##"), std::vector<int>{565});
    parts.merges_as_lists = true;
    EXPECT_EQ(from_json(parts).encode("## Title"), t.encode("## Title"));
}

static TokenizerJsonText llama3_parts() {
    TokenizerJsonText parts;
    parts.vocabulary = read_text(outside("data/tokenizers/llama3/encoder.json"));
    parts.read_merges(read_text(outside("data/tokenizers/llama3/vocab.bpe")), 0);
    parts.digits = "\\p{N}{1,3}";
    parts.ignore_merges = true;
    const auto config = read_json(outside("data/tokenizers/llama3/tokenizer_config.json"));
    for (const auto& [id, token] : config["added_tokens_decoder"].items())
        parts.added.emplace_back(std::stoi(id), token["content"].get<std::string>());
    return parts;
}

TEST(Reference, Llama3) {
    REQUIRE_OUTSIDE("data/tokenizers/llama3");
    TokenizerJsonText parts = llama3_parts();
    const Tokenizer t = from_json(parts);
    compare_with_reference("llama3", encode_with(t));
    compare_with_llama_cpp("llama-bpe", encode_with(t));
    EXPECT_EQ(t.size(), 128256);
    parts.start_token = "<|begin_of_text|>";
    parts.start_id = 128000;
    EXPECT_EQ(from_json(parts).encode("Hello"), (std::vector<int>{128000, 9906}));
}

// transformers.js: texts, ids and decoded texts, special tokens shown.
static void compare_with_js(const char* file, const std::string& name, const Tokenizer& t) {
    const auto all = read_json(outside(vectors + "transformers.js/" + file));
    ASSERT_TRUE(all.contains(name));
    for (const auto& [title, test] : all[name].items()) {
        const auto ids = test["ids"].get<std::vector<int>>();
        if (test["text"].is_string()) {
            EXPECT_EQ(t.encode(test["text"].get<std::string>()), ids) << title;
        }
        if (test.contains("decoded")) {
            EXPECT_EQ(t.decode(ids, false), test["decoded"].get<std::string>()) << title;
        }
    }
}

TEST(Reference, TransformersJs) {
    REQUIRE_OUTSIDE("data/tokenizers/llama3");
    TokenizerJsonText parts = llama3_parts();
    compare_with_js("transformersjs_llama.json", "Xenova/llama3-tokenizer", from_json(parts));
    parts.start_token = "<|begin_of_text|>";
    parts.start_id = 128000;
    compare_with_js("transformersjs_llama.json", "Xenova/llama3-tokenizer-new", from_json(parts));
    compare_with_js("transformersjs_qwen2.json", "Xenova/Qwen1.5-0.5B-Chat", real("internvl2-1b"));
}

// 400 random strings through the slow classes.
TEST(Reference, SlowClasses) {
    for (const std::string name :
         {"internvl2-1b", "internvl2-2b", "internvl2-4b", "internvl2-40b"}) {
        REQUIRE_OUTSIDE(vectors + "slow/" + name + ".jsonl");
        const Tokenizer& t = real(name);
        int compared = 0;
        for (const auto& line : read_json_lines(outside(vectors + "slow/" + name + ".jsonl"))) {
            if (!line.contains("ids")) continue;
            auto ids = line["ids"].get<std::vector<int>>();
            EXPECT_EQ(t.decode(ids, true), line["decoded"].get<std::string>());
            EXPECT_EQ(t.decode(ids, false), line["decoded_with_specials"].get<std::string>());
            // InternLM2's piece for the character NUL: SentencePiece used it up to 0.2.1 (ref/ is
            // of that time, as the models are); later versions write the byte piece.
            if (name == "internvl2-2b") std::ranges::replace(ids, 3, 354);
            EXPECT_EQ(t.encode(line["text"].get<std::string>()), ids) << line["text"];
            ++compared;
        }
        EXPECT_GE(compared, 400) << name;
    }
}

// The model card's twelve dialogues for three templates, as strings and, where it is known, as ids.
TEST(Reference, CardPrompts) {
    REQUIRE_OUTSIDE(vectors + "ref/card_prompts.json");
    int strings = 0, ids_compared = 0;
    for (const auto& test : read_json(outside(vectors + "ref/card_prompts.json"))) {
        std::vector<Turn> turns;
        for (const auto& round : test["history"]) turns.push_back({round[0], round[1]});
        std::string question = test["question"];
        const auto tiles = test["num_patches_list"].get<std::vector<int>>();
        const bool first = turns.empty() && !tiles.empty();
        if (first && question.find("<image>") == question.npos) question = "<image>\n" + question;
        turns.push_back({question, std::nullopt});
        const ChatTemplate& chat = find_template(test["template"]);
        const std::string prompt =
            expand_images(render(chat, chat.default_system, turns), tiles, 256);
        EXPECT_EQ(sha256_hex(prompt.data(), prompt.size()), test["prompt_sha256"]) << test["case"];
        ++strings;
        if (!test.contains("ids_sha256_u32le")) continue;
        const bool qwen2 = test["template"] == "Hermes-2";
        const std::vector<int> ids = real(qwen2 ? "internvl2-1b" : "internvl2-2b").encode(prompt);
        EXPECT_EQ(ids.size(), test["n_ids"].get<size_t>()) << test["case"];
        EXPECT_EQ(sha256_hex(ids.data(), ids.size() * sizeof(int)), test["ids_sha256_u32le"]);
        ++ids_compared;
    }
    EXPECT_EQ(strings, 36);
    EXPECT_EQ(ids_compared, 24);
}

}  // namespace internvl
