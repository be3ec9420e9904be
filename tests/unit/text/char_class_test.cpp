#include "text/char_class.h"

#include "support.h"
#include "text/utf8.h"

namespace internvl {

TEST(CharClass, AgreesWithThePatternsOfTheReference) {
    REQUIRE_OUTSIDE("data/unicode/regex_classes.json");
    const auto classes = read_json(outside("data/unicode/regex_classes.json"));
    const auto holds = [&](const char* name) {
        std::vector<bool> in(0x110000);
        for (const auto& range : classes[name])
            for (uint32_t c = range[0]; c <= range[1].get<uint32_t>(); ++c) in[c] = true;
        return in;
    };
    const auto letter = holds("L"), number = holds("N"), space = holds("space");
    int different = 0;
    for (uint32_t c = 0; c < 0x110000; ++c) {
        if (c >= 0xd800 && c < 0xe000) continue;
        const CharClass k = class_of(c);
        different += (k == CharClass::letter) != letter[c] ||
                     (k == CharClass::number) != number[c] ||
                     (k == CharClass::space || k == CharClass::newline) != space[c];
    }
    EXPECT_EQ(different, 0);
}

// Unicode's own test: column 2 is form C of columns 1, 2 and 3.
TEST(CharClass, NormalFormC) {
    REQUIRE_OUTSIDE("data/unicode/NormalizationTest.txt");
    std::stringstream file(read_text(outside("data/unicode/NormalizationTest.txt")));
    int lines = 0;
    for (std::string line; std::getline(file, line);) {
        if (line.empty() || line[0] == '#' || line[0] == '@') continue;
        std::stringstream in(line);
        std::string column[3];
        for (std::string& text : column) {
            std::string field;
            std::getline(in, field, ';');
            std::stringstream points(field);
            for (uint32_t c; points >> std::hex >> c;) append_utf8(c, text);
        }
        for (const std::string& text : column) EXPECT_EQ(normalise_nfc(text), column[1]) << line;
        // Ordinary text around it changes nothing.
        EXPECT_EQ(normalise_nfc("文 " + column[0] + " z"),
                  normalise_nfc("文 ") + normalise_nfc(" " + column[0]).substr(1) + " z")
            << line;
        ++lines;
    }
    EXPECT_GT(lines, 15000);
}

}  // namespace internvl
