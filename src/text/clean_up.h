#pragma once
#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace internvl {

// The reference's `clean_up_tokenization`: ten plain replacements, " ." by "." first, then " ?",
// " !", " ,", " ' " by "'", " n't", " 'm", " 's", " 've", " 're", each over all of the text that
// the one before left. Done while the text arrives, holding back only what a replacement may still
// change (at most some characters).
class CleanUp {
  public:
    static constexpr size_t stages = 10;
    std::string push(std::string_view text);
    std::string held() const { return CleanUp(*this).finish(); }
    std::string finish();  // what was held; ready for another text

  private:
    void put(size_t stage, char c, std::string& out);
    void pass_on(size_t stage, std::string& out);

    uint8_t matched_[stages] = {};  // characters of each stage's pattern that stand before
};

}  // namespace internvl
