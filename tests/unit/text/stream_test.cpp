#include <random>

#include "folders.h"
#include "text/clean_up.h"
#include "text/stream_decoder.h"
#include "text/utf8.h"

namespace internvl {

// The ten replacements, one after the other.
static std::string cleaned(std::string text) {
    const std::pair<const char*, const char*> rules[] = {
        {" .", "."},     {" ?", "?"},   {" !", "!"},   {" ,", ","},     {" ' ", "'"},
        {" n't", "n't"}, {" 'm", "'m"}, {" 's", "'s"}, {" 've", "'ve"}, {" 're", "'re"}};
    for (const auto& [from, to] : rules) text = replace_all(text, from, to);
    return text;
}

TEST(CleanUp, AgreesWithReplacingInTurn) {
    std::mt19937 random(7);
    const std::string alphabet = "   ''.?!,ntmsverex";
    for (int round = 0; round < 20000; ++round) {
        std::string text;
        for (unsigned i = random() % 24; i > 0; --i) text += alphabet[random() % alphabet.size()];
        CleanUp stream;
        std::string found;
        for (size_t at = 0; at < text.size();) {
            const size_t length = 1 + random() % 4;
            found += stream.push(std::string_view(text).substr(at, length));
            at += length;
        }
        ASSERT_EQ(found + stream.finish(), cleaned(text)) << text;
    }
}

TEST(CleanUp, HoldsBackOnlyWhatMayChange) {
    CleanUp stream;
    EXPECT_EQ(stream.push("I do"), "I do");
    EXPECT_EQ(stream.push(" "), "");
    EXPECT_EQ(stream.push("x"), " x");
    EXPECT_EQ(stream.push(" n"), "");
    EXPECT_EQ(stream.push("o"), " no");
    EXPECT_EQ(stream.push(" ."), ".");
    EXPECT_EQ(stream.push(" '"), "");
    EXPECT_EQ(stream.push("s"), "'s");
    EXPECT_EQ(stream.push(" 'x"), " 'x");
    EXPECT_EQ(stream.finish(), "");
}

static std::vector<std::string> pieces_of(const Tokenizer& t, const std::vector<int>& ids,
                                          bool skip_special) {
    StreamDecoder stream(t, skip_special);
    std::vector<std::string> pieces;
    for (const int id : ids) pieces.push_back(stream.push(id));
    pieces.push_back(stream.finish());
    return pieces;
}

// A prefix that every continuation keeps must have been given already.
TEST(StreamDecoder, GivesEveryCharacterAtOnce) {
    for (const char* name : tiny_names) {
        const Tokenizer& t = tiny(name);
        const std::string text = "Hello, 你好! It is 42 \xF0\x9F\x98\x80 x";
        const std::vector<int> ids = t.encode(text);
        std::string given;
        StreamDecoder stream(t, true);
        for (size_t i = 0; i < ids.size(); ++i) {
            given += stream.push(ids[i]);
            const std::vector<int> before(ids.begin(), ids.begin() + long(i) + 1);
            std::string sure = t.decode(before, true);
            while (!sure.empty() && sure.ends_with("\xEF\xBF\xBD")) sure.resize(sure.size() - 3);
            if (t.decode_rules().clean_runs || t.decode_rules().clean_text)
                while (sure.ends_with(' ')) sure.pop_back();
            EXPECT_TRUE(given.starts_with(sure)) << name << " has only given: " << given;
        }
        EXPECT_EQ(given + stream.finish(), text);
    }
}

TEST(StreamDecoder, RandomIdsGiveWholeCharacters) {
    std::mt19937 random(11);
    for (const char* name : tiny_names) {
        const Tokenizer& t = tiny(name);
        for (int round = 0; round < 300; ++round) {
            std::vector<int> ids(random() % 40);
            for (int& id : ids) id = int(random() % unsigned(t.size() + 3)) - 1;
            for (const bool skip : {false, true})
                for (const std::string& piece : pieces_of(t, ids, skip))
                    EXPECT_TRUE(is_valid_utf8(piece)) << name;
        }
    }
}

// SentencePiece writes U+FFFD for every byte of a broken character, byte-level tokenizers one for
// all of them.
TEST(StreamDecoder, BrokenCharacters) {
    const auto ids_of = [](const Tokenizer& t, std::string_view text, size_t dropped) {
        std::vector<int> ids = t.encode(text);
        ids.resize(ids.size() - dropped);
        return ids;
    };
    const std::string smile = "\xF0\x9F\x98\x80", one = "\xEF\xBF\xBD";
    const Tokenizer& pieces = tiny("tiny-2b");
    const std::vector<int> broken = ids_of(pieces, smile, 1);
    EXPECT_EQ(pieces.decode(broken, true), one + one + one);
    EXPECT_EQ(pieces_of(pieces, broken, true).back(), one + one + one);
    const Tokenizer& bytes = tiny("tiny-1b");
    EXPECT_EQ(bytes.decode(ids_of(bytes, smile, 1), true), one);
}

}  // namespace internvl
