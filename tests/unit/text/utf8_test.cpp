#include "text/utf8.h"

#include "support.h"

namespace internvl {

TEST(Utf8, StripsAsPythonDoes) {
    EXPECT_EQ(strip(" \t\xE3\x80\x80 x y \x1f\n"), "x y");
    EXPECT_EQ(strip("\xE3\x80\x80"), "");
    EXPECT_EQ(incomplete_tail("a\xe4\xbd"), 2u);
    EXPECT_EQ(incomplete_tail("a\xe4\xbd\xa0"), 0u);
    EXPECT_EQ(incomplete_tail("\xe4 "), 0u);
    EXPECT_EQ(replace_invalid("\xe4\xbd"
                              "a\xff"),
              "\xEF\xBF\xBD"
              "a\xEF\xBF\xBD");
    EXPECT_EQ(replace_all("aXXbX", "X", "yz"), "ayzyzbyz");
}

}  // namespace internvl
